"""Rules in the form that is sent to workers: checked, and compiled on use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from beam_fraud.alerts.alert import RuleTerms
from beam_fraud.decisions.rules.condition import (
    All,
    Any,
    Condition,
    Listed,
    Not,
    columns_of,
)

#: Decision of a rule: `review` and `decline` raise, `approve` lets pass.
Verdict = Literal["review", "decline", "approve"]
VERDICTS: tuple[Verdict, ...] = ("review", "decline", "approve")
#: Whether a rule decides, or only shows where it would fire.
Mode = Literal["live", "shadow"]
MODES: tuple[Mode, ...] = ("live", "shadow")


@dataclass(frozen=True)
class Rule:
    """A named condition and its decision."""

    #: Name in outputs and counters.
    name: str
    #: The checked condition.
    condition: Condition
    #: Decision where it holds.
    decision: Verdict
    #: Among contradicting rules, the higher priority wins.
    priority: int = 0
    #: The condition in the file, on one line and shortened.
    written: str | None = None
    #: The author's description.
    description: str | None = None
    #: A rule in shadow is evaluated and recorded, and has no effect.
    mode: Mode = "live"
    #: Share of the accounts for which it fires, per cent; a part of the condition.
    rollout: float = 100.0

    @property
    def raises(self) -> bool:
        """Return whether it flags, rather than approves."""
        return self.decision != "approve"

    @property
    def shadow(self) -> bool:
        """Return whether it is in shadow."""
        return self.mode == "shadow"

    @property
    def staged(self) -> dict[str, object]:
        """Mode and share of accounts for reports; empty for a rule that is live everywhere."""
        mode = {"mode": self.mode} if self.shadow else {}
        return {**mode, **({"rollout": self.rollout} if self.rollout < 100 else {})}


@dataclass(frozen=True)
class RuleSet:
    """The rules of a file."""

    #: Sorted by decreasing priority, then by order in the file.
    rules: tuple[Rule, ...]
    #: Directory of the lists that conditions name as `@name`, on the disk of every worker.
    lists: Path | None = None
    #: Id of its files (`files.RuleFiles`), which scored rows carry; None for rules of no file.
    id: str | None = None
    #: The files that it was read from (`files.RuleFiles.contents`).
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the rules, in their order."""
        return tuple(rule.name for rule in self.rules)

    @property
    def columns(self) -> tuple[str, ...]:
        """Distinct columns and features of all rules."""
        names = (column.name for rule in self.rules for column in columns_of(rule.condition))
        return tuple(dict.fromkeys(names))

    @property
    def terms(self) -> tuple[RuleTerms, ...]:
        """Fields of each rule for alerts."""
        return tuple(
            RuleTerms(rule.name, rule.decision, rule.priority, rule.written, rule.description)
            for rule in self.rules
        )

    @property
    def raising(self) -> tuple[str, ...]:
        """Names of the rules that flag, without those in shadow."""
        return tuple(rule.name for rule in self.rules if rule.raises and not rule.shadow)


@dataclass(frozen=True)
class Fired:
    """The rules that hold, by row."""

    #: The rules.
    rules: tuple[Rule, ...]
    #: bool[rules, n]: one contiguous row per rule.
    holds: npt.NDArray[np.bool_]
    #: Id of the rule set.
    rules_id: str | None = None
    #: `listing_of` each look-up of a list to its result, bool[n].
    listed: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)

    @cached_property
    def any(self) -> bool:
        """Return whether a rule holds for a row."""
        return bool(self.holds.any())

    @cached_property
    def places(self) -> Sequence[npt.NDArray[np.int64]]:
        """Per rule, the positions of rows that it holds for, int64[..]."""
        return [np.flatnonzero(holds) for holds in self.holds]

    @property
    def counts(self) -> Sequence[int]:
        """Number of rows that each rule holds for."""
        return [len(places) for places in self.places]


def listing_of(part: Listed) -> str:
    """Return the name of a look-up of a list.

    Example:
      >>> from beam_fraud.decisions.rules.condition import Column
      >>> listing_of(Listed(Column("account_id", "text"), "blocked", negated=True))
      'account_id in @blocked'
    """
    return f"{part.column.name} in @{part.name}"


def listings_of(rules: RuleSet) -> tuple[str, ...]:
    """Return the distinct look-ups of lists of all rules."""
    parts = (part for rule in rules.rules for part in _listed_in(rule.condition))
    return tuple(dict.fromkeys(map(listing_of, parts)))


def _listed_in(condition: Condition) -> Iterator[Listed]:
    match condition:
        case Listed():
            yield condition
        case All(parts) | Any(parts):
            for part in parts:
                yield from _listed_in(part)
        case Not(inner):
            yield from _listed_in(inner)


#: Share of rows above which a stream mutes a rule, and other commands warn.
RULE_LIMIT = 0.2
#: Minimum rows of a window for a reliable share.
FEWEST_ROWS = 100
