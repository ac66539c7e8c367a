"""Rules, as they are sent to workers: what was read and checked, compiled where it is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from beam_fraud.alerts.alert import RuleTerms
from beam_fraud.decisions.rules.condition import Condition, columns_of

#: What a rule says: `review` and `decline` raise to it, `approve` lets pass.
Verdict = Literal["review", "decline", "approve"]
VERDICTS: tuple[Verdict, ...] = ("review", "decline", "approve")


@dataclass(frozen=True)
class Rule:
    """A named condition and what it decides."""

    #: What outputs and counters call it.
    name: str
    #: Read and checked.
    condition: Condition
    #: What follows where it holds.
    decision: Verdict
    #: Of rules that contradict each other, the higher number wins.
    priority: int = 0
    #: The condition as the file has it, on one line and shortened.
    written: str | None = None
    #: What it is about, in its author's words.
    description: str | None = None

    @property
    def raises(self) -> bool:
        """Whether it flags, rather than lets pass."""
        return self.decision != "approve"


@dataclass(frozen=True)
class RuleSet:
    """The rules of a file."""

    #: By falling priority, those of one priority as they stand in the file.
    rules: tuple[Rule, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the rules, in their order."""
        return tuple(rule.name for rule in self.rules)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column and feature that any rule looks at, each once."""
        found = (column.name for rule in self.rules for column in columns_of(rule.condition))
        return tuple(dict.fromkeys(found))

    @property
    def terms(self) -> tuple[RuleTerms, ...]:
        """What alerts tell of each rule."""
        return tuple(
            RuleTerms(rule.name, rule.decision, rule.priority, rule.written, rule.description)
            for rule in self.rules
        )

    @property
    def raising(self) -> tuple[str, ...]:
        """Names of the rules that flag."""
        return tuple(rule.name for rule in self.rules if rule.raises)


@dataclass(frozen=True)
class Fired:
    """Which rules hold for which rows."""

    #: The rules.
    rules: tuple[Rule, ...]
    #: bool[rules, n]: a row of it a rule, so that each is contiguous.
    holds: npt.NDArray[np.bool_]

    @cached_property
    def places(self) -> Sequence[npt.NDArray[np.int64]]:
        """int64[..] a rule: the rows that it holds for, few as a rule."""
        return [np.flatnonzero(holds) for holds in self.holds]

    @property
    def counts(self) -> Sequence[int]:
        """How many rows each rule holds for."""
        return [len(places) for places in self.places]


#: The share of rows beyond which a stream mutes a rule, and everything else warns of it.
RULE_LIMIT = 0.2
#: Rows of a window from which a share is believed.
FEWEST_ROWS = 100
