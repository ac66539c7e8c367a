"""What the answer to a POST means for the message."""

from __future__ import annotations

from beam_fraud.alerts.channel import MessageRefusedError, TryLaterError
from beam_fraud.alerts.http_post import Reply
from beam_fraud.errors import FraudError

#: Answers that pass.
_PASSING = (408, 425, 429)
#: Answers that are about the URL or the login, and so about every message: to give this one up
#: would lose all of them until someone looks.
_OF_ALL = {
    401: "it wants another login or signature",
    403: "it forbids this",
    404: "there is nothing at this URL",
    405: "it takes no POST",
    407: "the proxy wants a login",
    410: "there is nothing at this URL any more",
}


def settle(where: str, reply: Reply, said: str = "") -> None:
    """Return if a message was taken.

    Args:
      where: the channel, for messages.
      reply: the answer.
      said: what it said, if that may be shown.

    Raises:
      MessageRefusedError: this message will not be taken.
      TryLaterError: the receiver says when it wants it.
      FraudError: not now.
    """
    status = reply.status
    if 200 <= status < 300:
        return
    told = f"{where}: it answered {status}{f' {said}' if said else ''}"
    if status in _PASSING or status >= 500:
        if reply.retry_after is not None:
            raise TryLaterError(
                f"{told}, wants to be asked again in {reply.retry_after:.0f} s", reply.retry_after
            )
        raise FraudError(told)
    if 300 <= status < 400:
        raise FraudError(f"{told}: redirects are not followed, give the URL it leads to")
    if status in _OF_ALL:
        raise FraudError(f"{told}: {_OF_ALL[status]}; check the URL")
    raise MessageRefusedError(told)
