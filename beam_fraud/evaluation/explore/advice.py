"""Advice on training that follows from the data: split, metric, threshold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from beam_fraud.evaluation.charts import percent
from beam_fraud.evaluation.explore.counts import Balance, Holders, OverTime
from beam_fraud.evaluation.explore.leakage import Suspect
from beam_fraud.evaluation.explore.quality import Duplicates
from beam_fraud.evaluation.explore.rows import Rows
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.event_time import event_micros, moment_of

#: Share of test rows, the latest.
_TESTED = 0.2
#: Default label delay: a week, as in the fraud-detection handbook.
_ASSUMED_DELAY = 7 * DAY
#: Maximum share of the gap for labels in the time before the test.
_MOST_OF_TRAINING = 0.25
#: Share of frauds whose labels the gap waits for.
_WAITED_FOR = 0.95
#: Days of data from which boundaries are moved to midnight.
_DAYS_TO_ROUND = 10


@dataclass(frozen=True)
class Holdout:
    """A split: training rows, a gap, and later test rows."""

    #: First event time after the rows to train on, ISO 8601, UTC.
    train_until: str
    #: First event time of the rows to test on.
    test_from: str
    #: Label delay in days.
    label_delay_days: float
    #: Whether it was measured (`labelled_at`) or assumed.
    delay_measured: bool
    #: Whether the data allow a gap of that length.
    gap: bool
    #: Rows to train on.
    train_rows: int
    #: Frauds among them.
    train_frauds: int
    #: Rows to test on.
    test_rows: int
    #: Frauds among them.
    test_frauds: int


def holdout(rows: Rows) -> Holdout | None:
    """Split n > 0 rows by time; return None if a side would be empty."""
    times = event_micros(rows.transactions)
    first, last = int(times[0]), int(times[-1])
    test_from = int(times[len(times) - max(int(len(times) * _TESTED), 1)])
    if last - first > _DAYS_TO_ROUND * DAY:
        test_from -= test_from % DAY
    delay = _measured_delay(rows)
    waited = _ASSUMED_DELAY if delay is None else delay
    gap = waited <= _MOST_OF_TRAINING * (test_from - first)
    train_until = test_from - (waited if gap else 0)
    trained, tested = (int(times.searchsorted(moment)) for moment in (train_until, test_from))
    if not trained:
        return None
    return Holdout(
        train_until=_written(train_until),
        test_from=_written(test_from),
        label_delay_days=round(waited / DAY, 2),
        delay_measured=delay is not None,
        gap=gap,
        train_rows=trained,
        train_frauds=int(rows.fraud[:trained].sum()),
        test_rows=len(times) - tested,
        test_frauds=int(rows.fraud[tested:].sum()),
    )


def _written(micros: int) -> str:
    """Format a time for options: a date alone for midnight."""
    text = moment_of(micros).isoformat()
    return text.removesuffix("T00:00:00+00:00").replace("+00:00", "Z")


def _measured_delay(rows: Rows) -> int | None:
    table = rows.transactions
    if "labelled_at" not in table.schema.names:
        return None
    known = rows.fraud & np.asarray(table.column("labelled_at").is_valid(), dtype=bool)
    if not known.any():
        return None
    seen = np.asarray(table.column("labelled_at").cast("int64").fill_null(0), dtype=np.int64)
    return max(int(np.quantile((seen - event_micros(table))[known], _WAITED_FOR)), 0)


Topic = Literal["labels", "split", "metric", "threshold", "features", "rows"]

#: Minimum frauds for reliable test figures.
_FEW_FRAUDS = 100
#: Rate from which fraud is not rare.
_RARE = 0.1
#: Rows of the example of flagging one in a thousand.
_ONE_IN = 1_000


@dataclass(frozen=True)
class Advice:
    """A piece of advice."""

    #: Topic.
    topic: Topic
    #: Text.
    text: str
    #: Whether ignoring it leads to errors.
    warning: bool = False


def advice(
    counted: Balance,
    split: Holdout | None,
    equal: Duplicates,
    who: Sequence[Holders],
    suspects: Sequence[Suspect],
    when: OverTime,
) -> tuple[Advice, ...]:
    """Return the advice, most important first."""
    accounts = next((h for h in who if h.role == "account_id"), None)
    return (
        *_labels(counted),
        *(_of_both_classes(counted, split, accounts) if counted.frauds and counted.genuine else ()),
        *_features(suspects),
        *_rows(equal, when),
    )


def _labels(counted: Balance) -> Iterator[Advice]:
    if not counted.genuine and not counted.frauds:
        yield Advice(
            "labels",
            "No row has a label: a model can be tried that needs none, and rules; nothing can be "
            "measured until cases are labelled.",
        )
    elif not counted.frauds or not counted.genuine:
        only = "genuine" if counted.genuine else "fraud"
        yield Advice(
            "labels", f"Every label is {only}: there is nothing to tell apart.", warning=True
        )
    elif counted.unlabelled:
        yield Advice(
            "labels",
            f"{counted.unlabelled:,} of {counted.rows:,} rows have no label; training and "
            "evaluating leave them out as dead letters. See that they are not mostly of one "
            "kind or one time, such as the latest.",
        )


def _of_both_classes(
    counted: Balance, split: Holdout | None, accounts: Holders | None
) -> Iterator[Advice]:
    yield from _split(split, accounts)
    yield from _metric(counted, accounts)
    yield from _threshold(counted)


def _split(split: Holdout | None, accounts: Holders | None) -> Iterator[Advice]:
    if split is None:
        yield Advice(
            "split",
            "The rows are too few, or of too few moments, to split them by time.",
            warning=True,
        )
        return
    text = (
        f"Split by time, not at random: train on what is before {split.train_until} "
        f"({split.train_rows:,} rows, {split.train_frauds:,} frauds), test on what is from "
        f"{split.test_from} on ({split.test_rows:,} rows, {split.test_frauds:,} frauds): "
        f"`train --until {split.train_until}`, `evaluate --from {split.test_from}`. "
        "`train` chooses the threshold on the last fifth of its own rows."
    )
    days = f"{split.label_delay_days:g} days"
    if split.gap:
        why = (
            f"95 % of the frauds are known after {days}"
            if split.delay_measured
            else f"nothing says when labels were known, so that {days} are assumed"
        )
        text += f" The gap between is left because labels come late: {why}."
    else:
        text += (
            f" There is no gap for labels that come late ({days}): the rows span too short a time, "
            "so that figures will be better than in practice."
        )
    if accounts is not None and accounts.defrauded:
        text += (
            " An account that is known to be defrauded is blocked in practice: leave it out of "
            "the test, as `evaluate --protocol handbook` does."
        )
    yield Advice("split", text)
    if 0 < split.test_frauds < _FEW_FRAUDS:
        yield Advice(
            "split",
            f"{split.test_frauds:,} frauds to test on are few: one more or less of them found "
            f"moves recall by {percent(1 / split.test_frauds)}. Look at intervals, not at the "
            "third digit.",
            warning=True,
        )


def _metric(counted: Balance, accounts: Holders | None) -> Iterator[Advice]:
    rate = counted.rate.rate or 0.0
    if rate > _RARE:
        yield Advice(
            "metric",
            f"{percent(rate)} of the labelled rows are frauds, far more than in practice. "
            "If rows were sampled, precision and average precision hold for the sample alone.",
        )
        return
    # A share of genuine rows that is more than a handful per fraud.
    flagged = next((s for s in (0.01, 0.1) if s * counted.genuine > 2 * counted.frauds), 0.5)
    text = (
        "Compare models by average precision, not by accuracy: who calls every row genuine is "
        f"right in {percent(1 - rate)}. Scores at random have an average precision of {rate:.4f}. "
        f"ROC AUC flatters where fraud is rare: a false positive rate of {100 * flagged:g} % is "
        f"{flagged * counted.genuine / counted.frauds:,.1f} false alarms for each fraud there is."
    )
    if accounts is not None:
        text += (
            " There are accounts, and people look into accounts, not rows: card precision@k, "
            "the share of the k most suspect accounts of a day that are defrauded, is what they "
            "will notice."
        )
    yield Advice("metric", text)


def _threshold(counted: Balance) -> Iterator[Advice]:
    rate = counted.rate.rate or 0.0
    sentences = [
        "0.5 means nothing where classes are so uneven; choose the threshold by what an alert "
        "and a missed fraud cost."
    ]
    if counted.frauds_a_day is not None and counted.rows_a_day is not None:
        sentences.append(
            f"There are {counted.rows_a_day:,.0f} rows and {counted.frauds_a_day:,.1f} frauds a "
            "day: with fewer alerts than frauds most are missed, so that "
            f"`--threshold budget=N` wants an N of at least {max(counted.frauds_a_day, 1):,.0f}."
        )
    lost = counted.mean_fraud_amount
    if lost is not None and lost > 0:
        cost = f"{lost:.0f}" if lost >= 10 else f"{lost:.2g}"
        sentences.append(
            f"A missed fraud costs {lost:,.2f} on average: with C for what an alert costs, "
            f"`--threshold cost={cost}:C`."
        )
    if rate < 1 / _ONE_IN:
        sentences.append(
            f"Flagging one row in {_ONE_IN:,} flags more rows than there are frauds: a precision "
            "above one half cannot come with that many alerts."
        )
    yield Advice("threshold", " ".join(sentences))


def _features(all_suspects: Sequence[Suspect]) -> Iterator[Advice]:
    leaks = dict.fromkeys(
        s.feature
        for s in all_suspects
        if s.kind in ("predicts alone", "absence predicts", "known later")
    )
    if leaks:
        yield Advice(
            "features",
            f"See whether {_listed(leaks)} {_are(leaks)} known when a transaction is made; what "
            "is not makes a model that is good in tests only.",
            warning=True,
        )
    idle = dict.fromkeys(s.feature for s in all_suspects if s.kind in ("id", "time", "constant"))
    if idle:
        yield Advice(
            "features",
            f"Leave out {_listed(idle)}: what is an id, the time or a constant in training says "
            "nothing of rows to come.",
        )


def _rows(equal: Duplicates, when: OverTime) -> Iterator[Advice]:
    if equal.rows:
        yield Advice(
            "rows",
            f"{equal.rows:,} rows equal an earlier one ({equal.frauds:,} of them frauds). In a "
            "random split such rows are on both sides, and a model is tested on what it has "
            "seen.",
        )
    if equal.conflicting_groups:
        yield Advice(
            "rows",
            f"{equal.conflicting_rows:,} rows are equal but for their labels, which differ: no "
            "model can get all of them right.",
            warning=True,
        )
    half = len(when.calendar) // 2
    early, late = (
        _rate_over(sum(r.frauds for r in part), sum(r.labelled for r in part))
        for part in (when.calendar[:half], when.calendar[half:])
    )
    if early and late and max(early, late) > 2 * min(early, late):
        yield Advice(
            "rows",
            f"The rate of frauds goes from {percent(early)} in the first half of the time to "
            f"{percent(late)} in the second. Fraud changed, or labels of some time are not "
            "complete.",
            warning=True,
        )


def _rate_over(frauds: int, labelled: int) -> float:
    return frauds / labelled if labelled and frauds >= _FEW_FRAUDS else 0.0


def _listed(names: dict[str, None]) -> str:
    shown = list(names)[:8]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return ", ".join(shown) + more


def _are(names: dict[str, None]) -> str:
    return "is" if len(names) == 1 else "are"
