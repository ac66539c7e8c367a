"""Text from outside, escaped so that a terminal, a log or a message shows what it is."""

from __future__ import annotations

#: Letters and marks by Unicode's tables that show nothing.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def printable(text: str, most: int | None = None, *, escaped: bool = False) -> str:
    r"""Escape what does not show, ends a line or changes the direction of what follows.

    Args:
      text: of anyone.
      most: characters to keep; a longer text is cut and ends in `…`.
      escaped: keep backslashes, because `text` holds escapes already, as a message of the log
        does in its names and a record in its JSON.

    Returns:
      Printable text on one line; a different one for every `text` if `most` is None and `escaped`
      is not set.

    Example:
      >>> printable("Caf\u00e9\nBcc: all\u202e")
      'Café\\nBcc: all\\u202e'
      >>> printable("C:\\n\x1b"), printable("C:\\n\x1b", escaped=True)
      ('C:\\\\n\\x1b', 'C:\\n\\x1b')
    """
    if most is not None and len(text) > most:
        # Cut before the escapes, which may be ten times as long, and after them again.
        return printable(text[:most], escaped=escaped)[: most - 1] + "…"
    return "".join(
        char
        if char.isprintable() and char not in _BLANK and (escaped or char != "\\")
        else char.encode("unicode_escape").decode()
        for char in text
    )
