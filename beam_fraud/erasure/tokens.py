"""Identifiers in records as they came: JSON, CSV, or what is neither."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: What would make an identifier next to it a part of a longer one; bytes of non-ASCII letters too.
_WORD = rb"[0-9A-Za-z_\x80-\xff]"
#: Joins parts of numbers and names, such as 12.5 or a-12.
_JOINT = rb"[.+-]"


def token_pattern(ids: Sequence[str]) -> re.Pattern[bytes]:
    r"""A pattern that finds any of `ids` as a whole word, however JSON or CSV may spell it.

    A word that only looks like one, such as an equal amount, is found as well: whoever deletes
    rather deletes a bad record too much than one too few.

    Args:
      ids: one identifier or more, none empty.

    Example:
      >>> pattern = token_pattern(["42", 'a"b'])
      >>> texts = (b'{"account": 42}', b"x,42.0,3", b"142,4.42,42-1", b'"a\\u0022b"', b'"a""b"')
      >>> [bool(pattern.search(text)) for text in texts]
      [True, True, False, True, True]
    """
    words = b"|".join(map(_spellings, sorted(ids, key=len, reverse=True)))
    return re.compile(
        rb"(?<!%(word)s)(?<!%(word)s%(joint)s)(?:%(words)s)(?:\.0+)?(?!%(word)s)(?!%(joint)s%(word)s)"
        % {b"word": _WORD, b"joint": _JOINT, b"words": words}
    )


def _spellings(identifier: str) -> bytes:
    return b"".join(map(_character, identifier))


def _character(char: str) -> bytes:
    plain = re.escape(char.encode("utf-8", "surrogatepass"))
    units = char.encode("utf-16-be", "surrogatepass")
    escapes = b"".join(
        rb"\\u(?i:%04x)" % int.from_bytes(units[at : at + 2], "big")
        for at in range(0, len(units), 2)
    )
    others = {'"': [rb'\\"', rb'""'], "\\": [rb"\\\\"], "/": [rb"\\/"]}.get(char, [])
    others += [rb"\\" + short for short in _SHORT.get(char, [])]
    # The longest first: a doubled quote is not one quote and the end of the field.
    return b"(?:" + b"|".join([escapes, *others, plain]) + b")"


#: What JSON writes for control characters.
_SHORT = {"\n": [b"n"], "\r": [b"r"], "\t": [b"t"], "\b": [b"b"], "\f": [b"f"]}
