"""Alerts to Slack, or to what takes the same: Mattermost, Rocket.Chat, Discord's `/slack`."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field

import msgspec

from beam_fraud.alerts.fields import FIELDS
from beam_fraud.alerts.http_post import HttpPost, Reply
from beam_fraud.alerts.http_reply import settle
from beam_fraud.alerts.message import Message
from beam_fraud.alerts.policy import Policy
from beam_fraud.alerts.slack_blocks import message_blocks
from beam_fraud.alerts.template import MessageTemplate
from beam_fraud.errors import FraudError

_LOG = logging.getLogger(__name__)
#: What Slack says is wrong, such as `invalid_blocks`; anything else may be a page.
_WORD = re.compile(rb"[a-z_]{2,40}")


@dataclass(frozen=True)
class SlackChannel:
    """One post a message, into the channel of an incoming webhook."""

    #: Scheme, host and a hash of the URL, which is a secret.
    name: str
    policy: Policy
    #: What to post to.
    url: str = field(repr=False)
    #: What of an alert is shown.
    fields: tuple[str, ...] = FIELDS
    #: File of certificates to trust instead of the system's.
    ca_file: str | None = None
    #: The user's template, if there is one.
    template: MessageTemplate | None = None
    _post: HttpPost = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Connect to nothing yet."""
        object.__setattr__(self, "_post", HttpPost(self.url, self.ca_file))

    def check(self) -> None:
        """See that the server answers; nothing is posted.

        Raises:
          FraudError: it cannot be reached.
        """
        try:
            self._post.check()
        except FraudError as error:
            raise FraudError(f"--alert {self.name}: {error}") from None

    def send(self, message: Message) -> None:
        """Post the message. A repeat shows twice, with the same delivery at its end.

        Raises:
          MessageRefusedError: it will not be taken, whenever it is tried.
          TryLaterError: the server says when it wants it.
          FraudError: it cannot be reached, or not now.
        """
        body = msgspec.json.encode(message_blocks(message, self.fields, self._text(message)))
        headers = {"Content-Type": "application/json", "User-Agent": "beam-fraud"}
        try:
            reply = self._post.post(body, headers)
        except FraudError as error:
            raise FraudError(f"--alert {self.name}: {error}") from None
        settle(f"--alert {self.name}", reply, _word_of(reply))

    def close(self) -> None:
        """End the connection."""
        self._post.close()

    def describe(self) -> str:
        """The name, which holds no secret."""
        return self.name

    def _text(self, message: Message) -> str | None:
        if self.template is None:
            return None
        try:
            return self.template.render(message)
        except Exception as error:
            # An alert that looks otherwise is better than none.
            _LOG.warning("a template failed (%s), the default one is used", type(error).__name__)
            return None


def _word_of(reply: Reply) -> str:
    return reply.body.decode() if _WORD.fullmatch(reply.body) else ""
