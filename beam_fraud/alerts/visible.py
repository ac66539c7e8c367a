"""Names that come from outside, so that what is seen is what they are."""

from __future__ import annotations

#: Letters and marks by Unicode's tables that show nothing.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def visible(text: str, most: int | None = None) -> str:
    r"""`text` on one line: what does not show, or turns the direction of what follows, is escaped.

    Args:
      text: of anyone.
      most: characters to keep; what is longer is cut and ends in `…`.

    Returns:
      Printable text without line ends; a different one for every `text` if `most` is None.

    Example:
      >>> visible("Caf\u00e9\nBcc: all\u202e")
      'Café\\nBcc: all\\u202e'
    """
    if most is not None and len(text) > most:
        # Cut before the escapes, which may be ten times as long, and after them again.
        shown = visible(text[:most])
        return shown[: most - 1] + "…"
    return "".join(
        char
        if char.isprintable() and char != "\\" and char not in _BLANK
        else char.encode("unicode_escape").decode()
        for char in text
    )
