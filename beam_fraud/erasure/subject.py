"""What is to be deleted: all that is known of accounts, or all that is older than a moment."""

from __future__ import annotations

import re
from dataclasses import dataclass
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
