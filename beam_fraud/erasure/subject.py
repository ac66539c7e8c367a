"""What is to be deleted: all that is known of accounts, or all that is older than a moment."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from beam_fraud.erasure.tokens import token_pattern


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
        """How many they are."""
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
        """Whether a record holds an id or a pseudonym; note all that it holds."""
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
