"""Text from outside that a terminal or a log can be trusted with."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""What a terminal or a line of a log can be trusted with: all else is shown as an escape.

    Example:
      >>> printable("a\x1b[31m\nb")
      'a\\x1b[31m\\nb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
