"""The subject of an erasure: accounts, or everything before a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

#: Characters that extend an adjacent id, including bytes of non-ASCII letters.
_WORD = rb"[0-9A-Za-z_\x80-\xff]"
#: Characters that join parts of numbers and names, as in 12.5 or a-12.
_JOINT = rb"[.+-]"


def token_pattern(ids: Sequence[str]) -> re.Pattern[bytes]:
    r"""Return a pattern that finds any of `ids` as a whole word in JSON or CSV.

    A word that only looks like an id, such as an equal amount, matches as well: erase rather one
    invalid record too many than one too few.

    Args:
      ids: one or more ids, none empty.

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
    # Longest first: a doubled quote is not a quote and the end of the field.
    return b"(?:" + b"|".join([escapes, *others, plain]) + b")"


#: JSON's escapes of control characters.
_SHORT = {"\n": [b"n"], "\r": [b"r"], "\t": [b"t"], "\b": [b"b"], "\f": [b"f"]}


@dataclass(frozen=True)
class Accounts:
    """Everything of these accounts. Its representation names none."""

    #: Distinct ids.
    ids: tuple[str, ...]
    #: Their pseudonyms, with a key.
    pseudonyms: tuple[str, ...] = ()
    #: Ids found so far.
    known: set[str] = field(default_factory=set, compare=False)

    def __repr__(self) -> str:
        return f"Accounts(<{len(self.ids)} ids>)"

    @property
    def kind(self) -> str:
        """Kind in the table `erasures`."""
        return "account"

    @cached_property
    def tokens(self) -> re.Pattern[bytes]:
        """Pattern of their ids in records."""
        return token_pattern((*self.ids, *self.pseudonyms))

    @property
    def unknown(self) -> list[str]:
        """Ids that were found nowhere."""
        return [id for id in self.ids if id not in self.known]

    def note(self, names: Iterable[str]) -> None:
        """Record ids or pseudonyms as found."""
        self.known.update(self._id_of[name] for name in names)

    def are_in(self, record: bytes) -> bool:
        """Return whether a record contains an id or pseudonym; record all that it contains."""
        if not self.tokens.search(record):
            return False
        self.known.update(id for id in self.unknown if self._tokens_of[id].search(record))
        return True

    @cached_property
    def _id_of(self) -> dict[str, str]:
        pseudonyms = dict(zip(self.pseudonyms, self.ids, strict=True)) if self.pseudonyms else {}
        return pseudonyms | {id: id for id in self.ids}

    @cached_property
    def _tokens_of(self) -> dict[str, re.Pattern[bytes]]:
        names: dict[str, list[str]] = {}
        for name, id in self._id_of.items():
            names.setdefault(id, []).append(name)
        return {id: token_pattern(each) for id, each in names.items()}

    @cached_property
    def names(self) -> frozenset[str]:
        """Their ids and pseudonyms."""
        return frozenset((*self.ids, *self.pseudonyms))


@dataclass(frozen=True)
class Before:
    """Everything before a time."""

    #: The time, UTC.
    moment: datetime

    @property
    def kind(self) -> str:
        """Kind in the table `erasures`."""
        return "retention"


Subject = Accounts | Before
