"""Figures of a comparison as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from beam_fraud.decisions.rules.figures import Caught
from beam_fraud.errors import Code, UsageError
from beam_fraud.evaluation.bootstrap import Difference, Interval
from beam_fraud.evaluation.comparison.maturity import Maturity
from beam_fraud.evaluation.comparison.swap import SwapSet
from beam_fraud.evaluation.rows import Floats, Ints

#: A number, or float64[n].
Amounts = TypeVar("Amounts", float, Floats)


@dataclass(frozen=True)
class Prices:
    """The costs of a missed fraud and of a false alarm."""

    #: Price of a missed fraud, whatever its amount.
    missed: float
    #: Share of a missed fraud's amount that is lost.
    share: float
    #: Price of a false alarm.
    false_alarm: float

    def cost(self, missed: Amounts, missed_amount: Amounts, false_alarms: Amounts) -> Amounts:
        """Return the cost of missed frauds, their total amount and false alarms."""
        return self.missed * missed + self.share * missed_amount + self.false_alarm * false_alarms

    def __str__(self) -> str:
        """Describe the prices in words."""
        missed = f"{self.missed:g}" if not self.share else f"{100 * self.share:g} % of its amount"
        return f"a missed fraud costs {missed}, a false alarm {self.false_alarm:g}"


def parse_prices(text: str) -> Prices:
    """Parse `FN:FP`, where FN is a price, `amount` or a share of the amount in per cent.

    Raises:
      UsageError: it has another form.

    Example:
      >>> parse_prices("100:1"), parse_prices("60%:5").share
      (Prices(missed=100.0, share=0.0, false_alarm=1.0), 0.6)
    """
    missed, _, false_alarm = text.partition(":")
    try:
        alarm = _positive(false_alarm)
        if missed == "amount":
            return Prices(0.0, 1.0, alarm)
        if missed.endswith("%"):
            return Prices(0.0, _positive(missed[:-1]) / 100, alarm)
        return Prices(_positive(missed), 0.0, alarm)
    except ValueError:
        raise UsageError(
            f"--cost {text}: must be FN:FP, two numbers above 0, as in 100:1; FN may also be "
            "`amount` or a share of the amount, as in 60%:5",
            Code.OPTION_VALUE,
        ) from None


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < np.inf:
        raise ValueError(text)
    return number


@dataclass(frozen=True)
class Outcome:
    """The results of a side on rows; labelled rows are those whose labels count."""

    #: Rows flagged, and those of them without a label that counts.
    flagged: int
    unlabelled: int
    #: Frauds flagged and passed.
    caught: int
    missed: int
    #: Genuine rows flagged.
    false_alarms: int
    #: Caught among the labelled that are flagged; None if there are none.
    precision: float | None
    #: Caught among the frauds; None if there are none.
    recall: float | None
    #: Area under the precision-recall curve of the scores; None with one class.
    average_precision: float | None
    #: Total amount of the frauds flagged and passed; refunds count as 0.
    amount_saved: float
    amount_missed: float
    #: Cost of missed frauds and false alarms by `--cost`.
    net_cost: float


@dataclass(frozen=True)
class AccountFigures:
    """The figures of a side by accounts, on rows whose labels count."""

    #: Accounts with a flagged row, with a fraud, and with a flagged fraud.
    flagged: int
    defrauded: int
    caught: int
    #: Accounts whose first flagged transaction is a fraud.
    first_alert_is_fraud: int
    #: Accounts whose first fraud is flagged.
    caught_at_first_fraud: int
    #: Frauds at or after the first flagged transaction of their account, which a block of the
    #: account would have stopped, and their total amount.
    frauds_stopped: int
    amount_stopped: float
    #: Accounts with a flagged row, per day.
    alerts_per_day: float


@dataclass(frozen=True)
class Capacity:
    """The catch of the k highest scores a day, by the score alone and without rules."""

    #: float64[points]: alerts per day, rising.
    alerts_per_day: Floats
    #: int64[points]: frauds among them.
    caught: Ints
    #: float64[points]: their total amount.
    amount: Floats


@dataclass(frozen=True)
class RuleEffect:
    """The effect of a rule."""

    #: Its name.
    name: str
    #: Rows it fires on.
    fired: Caught
    #: Rows that it alone flags: neither the model nor another rule does.
    alone: Caught
    #: Rows that the model would flag and that it alone lets pass.
    let_pass: Caught
    #: What it saves by `--cost`: losses and false alarms of the rows that it alone changes.
    net_gain: float
    #: Whether it is in shadow: `alone` and `net_gain` are what it would do.
    shadow: bool = False


@dataclass(frozen=True)
class SideFigures:
    """The figures of a side."""

    #: Name in conditions; name for people; model; rule set ("" without rules).
    key: str
    name: str
    model_id: str
    rule_set: str
    #: Rows flagged of all rows, also those too young for their labels to count.
    flagged: int
    flags_per_day: float
    #: On the rows whose labels count.
    outcome: Outcome
    #: 95 % intervals of `resampling.FIGURES`; None where undefined.
    intervals: dict[str, Interval | None]
    #: None without accounts.
    accounts: AccountFigures | None
    capacity: Capacity
    #: int64[bins], rows by score: frauds, genuine rows and rows without a label that counts.
    score_frauds: Ints
    score_genuine: Ints
    score_unlabelled: Ints
    #: Rules that fire, in the order of their names.
    rules: tuple[RuleEffect, ...]


@dataclass(frozen=True)
class Change:
    """The new side against another one."""

    #: Key of the other side.
    against: str
    #: Rows flagged by the new one (first) and the other (second), of all rows.
    swap: SwapSet
    #: The share of `SwapSet.share`.
    swap_share: float | None
    #: New minus other, on the rows whose labels count.
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class DayFlags:
    """A day."""

    #: ISO 8601.
    date: str
    rows: int
    #: Known frauds whose labels count.
    frauds: int
    #: For each side, rows flagged and frauds among them.
    flagged: tuple[int, ...]
    caught: tuple[int, ...]


@dataclass(frozen=True)
class SegmentOutcome:
    """A segment, on rows whose labels count."""

    name: str
    rows: int
    frauds: int
    #: For each side.
    sides: tuple[Outcome, ...]


@dataclass(frozen=True)
class SegmentOutcomes:
    """The segments that have rows."""

    name: str
    segments: tuple[SegmentOutcome, ...]


@dataclass(frozen=True)
class ChangedRow:
    """A row that two sides decide differently."""

    transaction_id: str
    event_time: str
    account_id: str | None
    amount: float
    #: 1 is fraud, 0 genuine, None unknown.
    label: int | None
    #: New and other side.
    scores: tuple[float, float]
    decisions: tuple[str, str]
    #: Names of the rules that fired, and the reasons in words, of each.
    rules: tuple[tuple[str, ...], tuple[str, ...]]
    reasons: tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class Comparison:
    """The changes of the new side against each of the others."""

    #: The finding in one sentence.
    sentence: str
    #: Creation time, ISO 8601.
    created: str
    #: Partitions, and rows that all sides have scored.
    partitions: int
    rows: int
    #: Rows that only some of the sides have scored; no figure counts them.
    left_out: int
    #: First and last event time, ISO 8601; None without rows.
    span: tuple[str, str] | None
    #: Time zone of days, and days that have rows.
    timezone: str
    days_count: int
    #: Rows old enough for their labels to count, and days that have such rows.
    mature_rows: int
    mature_days: int
    #: Labelled ones among them, frauds and their amount.
    labelled: int
    frauds: int
    fraud_amount: float
    #: How ripe the labels are.
    maturity: Maturity
    #: Prices of `--cost`.
    prices: Prices
    #: Warnings to the reader.
    warnings: tuple[str, ...]
    #: The sides, the new one first.
    sides: tuple[SideFigures, ...]
    #: The new side against each other one.
    changes: tuple[Change, ...]
    days: tuple[DayFlags, ...]
    segments: tuple[SegmentOutcomes, ...]
    #: Rows that sides decide differently; all are in `changed.parquet`.
    changed_rows: int
    #: Some of those that the new side and the first other one flag differently.
    sample: tuple[ChangedRow, ...]
    #: Bootstrap: accounts (rows without one are units of their own), resamples and seed.
    resamples: int
    seed: int

    @property
    def new(self) -> SideFigures:
        """The new side."""
        return self.sides[0]

    def figures(self) -> dict[str, float | None]:
        """Return the figures that conditions name, as `figure_names` lists them."""
        named: dict[str, float | None] = {"unknown_share": self.maturity.unknown_share}
        swaps = [change.swap_share for change in self.changes]
        # Of the new side: against the first other one.
        swaps = [swaps[0] if swaps else None, *swaps]
        for side, names, swap in zip(self.sides, condition_names(self.sides), swaps, strict=True):
            outcome = side.outcome
            values = {
                "recall": outcome.recall,
                "precision": outcome.precision,
                "ap": outcome.average_precision,
                "flags_per_day": side.flags_per_day,
                "net_cost": outcome.net_cost if self.labelled else None,
                "caught": float(outcome.caught) if self.labelled else None,
                "missed": float(outcome.missed) if self.labelled else None,
                "amount_saved": outcome.amount_saved if self.labelled else None,
                "swap_share": swap,
            }
            named |= {f"{name}.{figure}": values[figure] for name in names for figure in values}
        named |= {figure: named[f"{self.new.key}.{figure}"] for figure in FIGURE_KEYS}
        return named


#: Figures that conditions name; `unknown_share` stands alone.
FIGURE_KEYS = (
    *("recall", "precision", "ap", "flags_per_day", "net_cost"),
    *("caught", "missed", "amount_saved", "swap_share"),
)


class Named(Protocol):
    """A side, before or after it is measured."""

    @property
    def key(self) -> str:
        """Its name in conditions."""

    @property
    def model_id(self) -> str:
        """Its model."""


def condition_names(sides: Sequence[Named]) -> list[tuple[str, ...]]:
    """Return the names of each side in conditions: its key, and the name of its model.

    The latter is there if it can be written in a condition and means one side.
    """
    models = [side.model_id.partition("@")[0] for side in sides]
    taken = {side.key for side in sides} | set(FIGURE_KEYS)
    return [
        (side.key, model)
        if model.isidentifier() and models.count(model) == 1 and model not in taken
        else (side.key,)
        for side, model in zip(sides, models, strict=True)
    ]


def figure_names(sides: Sequence[Named]) -> tuple[str, ...]:
    """Return the names of all figures of a comparison of these sides."""
    own = [
        f"{name}.{key}" for names in condition_names(sides) for name in names for key in FIGURE_KEYS
    ]
    return (*FIGURE_KEYS, "unknown_share", *own)
