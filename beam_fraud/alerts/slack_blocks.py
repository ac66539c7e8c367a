"""A message as Slack, and what understands the same, shows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from beam_fraud.alerts.fields import FIELDS
from beam_fraud.alerts.message import Message
from beam_fraud.alerts.wording import ShownAlert, headline, intro, shown

#: Alerts in a message at most.
MOST_ALERTS = 50
#: Alerts that are shown in full; those after them take a line each.
_IN_FULL = 5
#: Bounds of Slack: characters of a section, characters of a header, blocks.
_SECTION, _HEADER, _BLOCKS = 3_000, 150, 50


def escaped(value: object) -> object:
    """A value that is text, with what Slack takes for a mention, a link or an entity escaped.

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
    """The object to post.

    Args:
      message: with at most `MOST_ALERTS` alerts.
      fields: of each alert that are shown.
      text: what to show instead of the default, escaped.

    Returns:
      `text` for notifications, and `blocks`.
    """
    title = headline(message, fields)
    pieces = _pieces(message, fields) if text is None else text.splitlines()
    blocks: list[dict[str, object]] = []
    if text is None:
        # Plain text: nothing in it is taken for a mention or a link.
        shown_title = {"type": "plain_text", "text": title[:_HEADER], "emoji": False}
        blocks.append({"type": "header", "text": shown_title})
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
    if (said := intro(message)) is not None:
        yield str(escaped(said))
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
    """A value as code: in it nothing is taken for formatting, a link or an emoji."""
    # A backquote would end the code.
    return f"`{escaped(value.replace('`', chr(0x2019)))}`"


def _sections(lines: Iterable[str]) -> Iterator[str]:
    """Lines put together to sections of no more than Slack's bound."""
    section = ""
    for line in map(_cut, lines):
        if len(section) + 1 + len(line) > _SECTION:
            yield section.strip("\n")
            section = ""
        section += f"\n{line}"
    if section.strip():
        yield section.strip("\n")


def _cut(line: str) -> str:
    """A line that fits into a section; where it is too long, the rest is left out."""
    if len(line) <= _SECTION // 2:
        return line
    cut = line[: _SECTION // 2]
    # An entity that is cut through would show as what it is not.
    return (cut.rpartition("&")[0] if "&" in cut[-5:] else cut) + "…"
