"""What is to be deleted: all that is known of accounts, or all that is older than a moment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

#: What would make an identifier next to it a part of a longer one; bytes of non-ASCII letters too.
_WORD = rb"[0-9A-Za-z_\x80-\xff]"
#: Joins parts of numbers and names, such as 12.5 or a-12.
_JOINT = rb"[.+-]"


def token_pattern(ids: Sequence[str]) -> re.Pattern[bytes]:
    r"""Return a pattern that finds any of `ids` as a whole word, however JSON or CSV may spell it.

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


@dataclass(frozen=True)
class Accounts:
    """Everything of these accounts. What is shown of them nowhere names one."""

    #: Their ids, each once.
    ids: tuple[str, ...]
    #: What stands for them where ids are pseudonymised, if there is a key.
    pseudonyms: tuple[str, ...] = ()
    #: Those of the ids of which a place holds something; filled as places are searched.
    known: set[str] = field(default_factory=set, compare=False)

    def __repr__(self) -> str:
        """Return how many they are."""
        return f"Accounts(<{len(self.ids)} ids>)"

    @property
    def kind(self) -> str:
        """Of the table `erasures`."""
        return "account"

    @cached_property
    def tokens(self) -> re.Pattern[bytes]:
        """What finds their ids in records."""
        return token_pattern((*self.ids, *self.pseudonyms))

    @property
    def unknown(self) -> list[str]:
        """Those of the ids of which no place that was searched holds anything."""
        return [id for id in self.ids if id not in self.known]

    def note(self, names: Iterable[str]) -> None:
        """Note that a place holds rows of these ids or pseudonyms."""
        self.known.update(self._id_of[name] for name in names)

    def are_in(self, record: bytes) -> bool:
        """Return whether a record holds an id or a pseudonym; note all that it holds."""
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
    """Everything from before a moment."""

    #: UTC.
    moment: datetime

    @property
    def kind(self) -> str:
        """Of the table `erasures`."""
        return "retention"


Subject = Accounts | Before
