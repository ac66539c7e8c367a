"""The quality of a model, week by week: expected before labels, measured with them, compared.

What is expected of a week is what could be said at its end: the shares of fraud by score are those
of the bundle's validation rows, and of earlier weeks whose labels were mature by then. Fraud of a
new kind that scores low breaks that and leaves no trace in the scores. Known frauds of each week
are therefore compared with the expected ones, and alarms of drift doubt the weeks in which they go
on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

import numpy as np
from scipy.stats import norm

from beam_fraud.evaluation.bootstrap import COVERED
from beam_fraud.evaluation.quality.expected import Expected, expected_of
from beam_fraud.evaluation.quality.measured import Delays, Measured, measured_of
from beam_fraud.evaluation.rows import Floats, Ints
from beam_fraud.evaluation.traffic import Estimate
from beam_fraud.models.label_delay import WAITED_FOR
from beam_fraud.models.reliability import BINS, Reliability, bins_of
from beam_fraud.monitoring.drift.report import Alarm
from beam_fraud.records.known_frauds import KnownFrauds
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.event_time import micros_of, moment_of

_WEEK = 7
#: 1970-01-01 was a Thursday: weeks begin on Mondays.
_MONDAY = 3
#: Probability that any week is said to contradict where nothing has changed.
_BY_CHANCE = 0.01
_Z = float(norm.ppf((1 + COVERED) / 2))
#: Least difference of precision or recall that contradicts an expected figure.
_MATTERS = 0.05
#: Least share by which known frauds differ in number from expected ones that contradict them: their
#: number varies from week to week where scores mean what they meant.
_MANY = 0.5
#: Kinds of alarms that say nothing about what a score means.
_HARMLESS = ("volume",)
_EPOCH = date(1970, 1, 1)
TEXT = (
    "a row of a score is fraud as often as rows of that score were on the validation rows of the "
    "bundle and in earlier weeks with mature labels"
)


@dataclass(frozen=True)
class Period:
    """A week, from Monday on, or the part of it that the archive has."""

    #: First and last day, ISO 8601.
    since: str
    until: str
    #: Days from the first to the last.
    days: int
    rows: int
    flagged: int
    #: None if no shares of fraud by score are known.
    expected: Expected | None
    #: Alarms of drift that go on in it, by which its expected figures are in doubt.
    doubts: tuple[str, ...]
    #: None without labels.
    measured: Measured | None
    #: How known frauds contradict the expected figures; "" if they do not, or are too few.
    contradicted: str

    @property
    def whole(self) -> bool:
        """Return whether it has seven days."""
        return self.days == _WEEK

    def days_before(self, other: Period) -> int:
        """Return the days from its last day to that of another period."""
        return (date.fromisoformat(other.until) - date.fromisoformat(self.until)).days


@dataclass(frozen=True)
class Assumption:
    """The assumption of expected figures, and whether it holds."""

    #: What the expected figures assume.
    text: str
    #: False if labels or alarms of drift contradict it, None if nothing can tell yet.
    holds: bool | None
    #: Why it fails, or how far it was checked.
    why: str


@dataclass(frozen=True)
class Quality:
    """The quality of a model over the time of an archive."""

    periods: tuple[Period, ...]
    #: Days after which half, and 95 %, of the frauds are labelled; None if unknown.
    delay_median_days: float | None
    delay_most_days: float | None
    #: The moment up to which labels are known, ISO 8601; None without labels.
    labels_as_of: str | None
    assumption: Assumption
    #: Warnings about what the figures lack.
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class ScoredDays:
    """Rows of days by decision and score."""

    #: int64[d]: local days since 1970, rising.
    days: Ints
    #: int64[d, 2, BINS]: passed and flagged rows by score.
    rows: Ints
    #: Time zone of the days.
    zone: tzinfo


@dataclass(frozen=True)
class Labelled:
    """The frauds that are known of the scored rows."""

    frauds: KnownFrauds
    #: float64[n]: how many frauds each stands for, by the audit lane.
    weights: Floats
    #: The moment up to which labels are known, microseconds.
    as_of: int


def quality_of(
    scored: ScoredDays,
    validated: Reliability | None,
    labelled: Labelled | None = None,
    alarms: Sequence[Alarm] = (),
) -> Quality:
    """Return the quality of every week.

    Args:
      scored: the rows.
      validated: validation rows of the bundle by score; None if unknown.
      labelled: the known frauds; None without labels.
      alarms: alarms of drift over the same rows.
    """
    weeks = (scored.days + _MONDAY) // _WEEK
    numbers = np.unique(weeks)
    rows = np.stack([scored.rows[weeks == week].sum(axis=0) for week in numbers])
    spans = [_Span.of(scored, weeks == week) for week in numbers]
    delays = None if labelled is None else Delays.of(labelled.frauds, labelled.as_of)
    # Without labels of passed rows, the missed frauds are unknown.
    unseen = labelled is not None and bool(labelled.frauds.flagged.all())
    measured: list[Measured | None] = [None] * len(numbers)
    if labelled is not None and delays is not None:
        of_fraud = (labelled.frauds.days + _MONDAY) // _WEEK
        for place, (week, span) in enumerate(zip(numbers, spans, strict=True)):
            own = of_fraud == week
            figures = measured_of(
                labelled.frauds.take(own),
                labelled.weights[own],
                int(rows[place, 1].sum()),
                delays,
                span.moments,
            )
            measured[place] = _without_recall(figures) if unseen else figures
    tests = 3 * sum(one is not None and one.state != "immature" for one in measured)
    periods = []
    for place, span in enumerate(spans):
        known = _known_before(span.end, validated, rows, spans, None if unseen else labelled)
        expected = None if known is None else expected_of(rows[place], known)
        since, until = span.first.isoformat(), span.last.isoformat()
        periods.append(
            Period(
                since=since,
                until=until,
                days=span.days,
                rows=int(rows[place].sum()),
                flagged=int(rows[place, 1].sum()),
                expected=expected,
                doubts=tuple(_doubts(alarms, since, until)),
                measured=measured[place],
                contradicted="; ".join(_contradictions(expected, measured[place], tests)),
            )
        )
    every = None if delays is None else delays.every
    return Quality(
        tuple(periods),
        None if every is None else every.quantile(0.5) / DAY,
        None if every is None else every.quantile(WAITED_FOR) / DAY,
        None if labelled is None else moment_of(labelled.as_of).isoformat(timespec="seconds"),
        _assumption(periods),
        tuple(_warnings(validated, labelled, delays, unseen=unseen)),
    )


@dataclass(frozen=True)
class _Span:
    """The days of a week."""

    first: date
    last: date
    #: int64[m]: moments spread evenly over it, microseconds.
    moments: Ints

    @property
    def end(self) -> int:
        return int(self.moments[-1])

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1

    @classmethod
    def of(cls, scored: ScoredDays, own: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> _Span:
        days = scored.days[own]
        first, last = (_EPOCH + timedelta(days=int(day)) for day in (days[0], days[-1]))
        begin, end = (
            micros_of(datetime(one.year, one.month, one.day, tzinfo=scored.zone))
            for one in (first, last + timedelta(days=1))
        )
        return cls(first, last, np.linspace(begin, end, 29).astype(np.int64))


def _known_before(
    end: int,
    validated: Reliability | None,
    rows: Ints,
    spans: Sequence[_Span],
    labelled: Labelled | None,
) -> Reliability | None:
    """Return the rows whose labels were mature at a moment; None if there are none."""
    if labelled is None:
        return validated
    frauds = labelled.frauds
    delays = Delays.of(frauds, end)
    if delays.every is None:
        return validated
    known = validated
    there = frauds.known_at <= end
    for place, span in enumerate(spans):
        if span.end >= end:
            break
        passed, flagged = delays.known(span.moments)
        if min(passed, flagged) < WAITED_FOR:
            continue
        own = there & (frauds.times >= span.moments[0]) & (frauds.times < span.end)
        weights = labelled.weights[own] / np.where(frauds.flagged[own], flagged, passed)
        counts = np.bincount(bins_of(frauds.scores[own]), weights, BINS).astype(np.float64)
        if known is None:
            known = Reliability(np.zeros(BINS), np.zeros(BINS), 1.0)
        known = known.with_rows(rows[place].sum(axis=0).astype(np.float64), counts)
    return known


def _without_recall(measured: Measured) -> Measured:
    none = Estimate(None, None)
    return Measured(**{**vars(measured), "frauds": none, "recall": none})


def _doubts(alarms: Sequence[Alarm], since: str, until: str) -> Iterator[str]:
    for alarm in alarms:
        tells = alarm.kind not in _HARMLESS and alarm.measure != "hour"
        if tells and alarm.since <= until and (alarm.until is None or alarm.until >= since):
            where = "" if alarm.segment is None else f" of {alarm.segment}"
            yield f"{alarm.what}{where} since {alarm.since}"


def _contradictions(
    expected: Expected | None, measured: Measured | None, tests: int
) -> Iterator[str]:
    """Yield in words where expected and measured figures differ by more than chance."""
    if expected is None or measured is None:
        return
    limit = float(norm.isf(_BY_CHANCE / (2 * max(tests, 1)))) / _Z
    for name in ("precision", "recall", "frauds"):
        one, other = getattr(expected, name), getattr(measured, name)
        if one.value is None or other.value is None:
            continue
        matters = _MATTERS if name != "frauds" else _MANY * one.value
        gap = other.value - one.value
        # Half widths on the sides that face each other.
        if gap < 0:
            wide = np.hypot(one.value - one.interval.low, other.interval.high - other.value)
        else:
            wide = np.hypot(one.interval.high - one.value, other.value - other.interval.low)
        if abs(gap) > max(limit * float(wide), matters):
            yield f"{name} {_text(other.value)}, expected {_text(one.value)}"


def _text(value: float) -> str:
    return f"{value:.2f}" if value <= 1 else f"{value:,.0f}"


def _assumption(periods: Sequence[Period]) -> Assumption:
    """Judge the newest weeks: those since the last one whose figures labels confirm."""
    if all(one.expected is None for one in periods):
        return Assumption(TEXT, None, "nothing is known of the shares of fraud by score")
    wrong = [one for one in periods if one.contradicted]
    doubted = [one for one in periods if one.doubts]
    whys = []
    if wrong:
        last = wrong[-1]
        weeks = "week" if len(wrong) == 1 else "weeks"
        whys.append(
            f"known frauds contradict it in {len(wrong)} {weeks}, last from {last.since} on: "
            f"{last.contradicted}"
        )
    if doubted:
        whys.append(
            f"drift puts the weeks from {doubted[0].since} to {doubted[-1].until} in doubt: "
            f"{'; '.join(doubted[-1].doubts)}"
        )
    if whys:
        return Assumption(TEXT, False, "; ".join(whys))
    checked = [
        one for one in periods if one.measured is not None and one.measured.state != "immature"
    ]
    if not checked:
        return Assumption(
            TEXT, None, "no week has enough labels to check it, and no drift doubts it"
        )
    return Assumption(
        TEXT, True, f"known frauds agree with it in {len(checked)} of {len(periods)} weeks"
    )


def _warnings(
    validated: Reliability | None, labelled: Labelled | None, delays: Delays | None, *, unseen: bool
) -> Iterator[str]:
    if validated is None:
        yield (
            "the bundle has no validation rows by score (an earlier version made it, it was "
            "imported, or had no labels): expected figures begin with mature labels"
        )
    if labelled is None:
        return
    if unseen:
        yield (
            "no fraud is known of a row that passed, so nothing tells how many were missed: recall "
            "needs charge-backs or an audit (--audit-share)"
        )
    if delays is not None and delays.every is None:
        yield (
            "too few labels of frauds have a labelled_at to estimate how late they come: every "
            "period is taken to be mature"
        )
