"""Post alerts to Slack or a compatible webhook: Mattermost, Rocket.Chat, Discord's `/slack`."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from beam_fraud.alerts.channels.http import HttpChannel, Reply, settle
from beam_fraud.alerts.channels.options import parse_options
from beam_fraud.alerts.channels.server import (
    receiver_name,
    refuse_login,
    refuse_unencrypted,
    server_of,
    without_fragment,
)
from beam_fraud.alerts.message import FIELDS, Message
from beam_fraud.alerts.policy import SHOWN_IN_DIGEST, Policy, Rate
from beam_fraud.alerts.template import MessageTemplate, read_template
from beam_fraud.alerts.wording import ShownAlert, headline, intro, shown

#: Maximum of alerts in a message.
MOST_ALERTS = 50
#: Number of alerts to show in full; each later alert takes a line.
_IN_FULL = 5
#: Limits of Slack: characters of a section, characters of a header, blocks.
_SECTION, _HEADER, _BLOCKS = 3_000, 150, 50
FORM = "slack://hooks.slack.com/services/..."
#: For people: grouped as e-mail is.
_POLICY = Policy(group=300.0, most=MOST_ALERTS, rate=Rate(60, 3600.0), digest=SHOWN_IN_DIGEST)


def escaped(value: object) -> object:
    """Escape mentions, links and entities of Slack if `value` is text.

    Example:
      >>> escaped("<!channel> & co")
      '&lt;!channel&gt; &amp; co'
    """
    if not isinstance(value, str):
        return value
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def message_blocks(
    message: Message, fields: tuple[str, ...] = FIELDS, text: str | None = None
) -> dict[str, object]:
    """Return the JSON object to post.

    Args:
      message: with at most `MOST_ALERTS` alerts.
      fields: names of the fields of each alert to show.
      text: text to show instead of the default, escaped.

    Returns:
      An object of `text`, for notifications, and `blocks`.
    """
    title = headline(message, fields)
    pieces = _pieces(message, fields) if text is None else text.splitlines()
    blocks: list[dict[str, object]] = []
    if text is None:
        # Slack reads no mention or link in plain text.
        header = {"type": "plain_text", "text": title[:_HEADER], "emoji": False}
        blocks.append({"type": "header", "text": header})
    for section in _sections(pieces):
        blocks.append(
            {"type": "section", "text": {"type": "mrkdwn", "text": section, "verbatim": True}}
        )
    return {
        "text": escaped(title),
        "mrkdwn": False,
        "parse": "none",
        "link_names": False,
        "unfurl_links": False,
        "unfurl_media": False,
        "blocks": blocks[:_BLOCKS],
    }


def _pieces(message: Message, fields: tuple[str, ...]) -> Iterator[str]:
    if (text := intro(message)) is not None:
        yield str(escaped(text))
    for number, alert in enumerate(message.alerts):
        full = number < _IN_FULL
        yield from _in_full(shown(alert, fields)) if full else [_in_a_line(shown(alert, fields))]
    yield f"delivery {_code(message.delivery_id)}"


def _in_full(alert: ShownAlert) -> Iterator[str]:
    yield f"*{escaped(alert.title)}*"
    for reason in alert.reason_lines:
        yield f"• {_code(reason)}"
    for label, value in alert.rows:
        yield f"{label}: {_code(value)}"
    yield ""


def _in_a_line(alert: ShownAlert) -> str:
    short = [value for label, value in alert.rows if label in ("Time", "Account", "Transaction")]
    return _cut(f"*{escaped(alert.title)}* {' '.join(_code(value[:60]) for value in short)}")


def _code(value: str) -> str:
    """Format a value as code: Slack reads no formatting, link or emoji in code."""
    # A backquote would end the code.
    return f"`{escaped(value.replace('`', chr(0x2019)))}`"


def _sections(lines: Iterable[str]) -> Iterator[str]:
    """Join lines to sections within Slack's limit."""
    section = ""
    for line in map(_cut, lines):
        if len(section) + 1 + len(line) > _SECTION:
            yield section.strip("\n")
            section = ""
        section += f"\n{line}"
    if section.strip():
        yield section.strip("\n")


def _cut(line: str) -> str:
    """Cut a line to the limit of a section."""
    if len(line) <= _SECTION // 2:
        return line
    cut = line[: _SECTION // 2]
    # A truncated entity would show as other text.
    return (cut.rpartition("&")[0] if "&" in cut[-5:] else cut) + "…"


_LOG = logging.getLogger(__name__)
#: Error codes of Slack, such as `invalid_blocks`; other text may be a web page.
_WORD = re.compile(rb"[a-z_]{2,40}")


@dataclass(frozen=True)
class SlackChannel(HttpChannel):
    """Post each message to the channel of an incoming webhook."""

    #: The user's template, or None.
    template: MessageTemplate | None = None

    def send(self, message: Message) -> None:
        """Post the message. A retry may show a message twice, with the same delivery id at its end.

        Raises:
          MessageRefusedError: Slack refuses this message permanently.
          TryLaterError: Slack names the time of the next attempt.
          FraudError: the server cannot be reached or fails at the moment.
        """
        body = msgspec.json.encode(message_blocks(message, self.fields, self._text(message)))
        reply = self.post(body, {})
        settle(f"--alert {self.name}", reply, _word_of(reply))

    def _text(self, message: Message) -> str | None:
        if self.template is None:
            return None
        try:
            return self.template.render(message)
        except Exception as error:
            # Send the alert in the default form rather than not at all.
            _LOG.warning(
                "a template failed (%s): the default template is used", type(error).__name__
            )
            return None


def _word_of(reply: Reply) -> str:
    return reply.body.decode() if _WORD.fullmatch(reply.body) else ""


def slack_channel(url: str) -> SlackChannel:
    """Return the channel of a `slack:` or `slack+http:` URL; connect to nothing.

    Raises:
      UsageError: the URL has another form, or sends alerts unencrypted.
      FraudError: a template cannot be read.
    """
    server = server_of(url, FORM)
    name = receiver_name(server.scheme, server, url)
    options = parse_options(f"--alert {name}", server.fragment, ("plain", "cafile", "template"))
    refuse_login(server, options)
    scheme = "http" if server.scheme == "slack+http" else "https"
    refuse_unencrypted(scheme, server, options)
    fields, template = options.fields(), options.get("template")
    return SlackChannel(
        name=name,
        policy=options.policy(_POLICY, MOST_ALERTS),
        url=f"{scheme}:{without_fragment(url).partition(':')[2]}",
        fields=fields,
        ca_file=options.ca_file(),
        template=None
        if template is None
        else read_template(options.where, template, fields, finalize=escaped),
    )
