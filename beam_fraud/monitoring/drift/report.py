"""The report of a monitor: figures against the reference, alarms with their weight, days."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from beam_fraud.monitoring.drift.divergence import jensen_shannon, kolmogorov_smirnov, psi
from beam_fraud.monitoring.drift.judgement import MIN_HISTORY, Finding, Judgement, judge
from beam_fraud.monitoring.drift.statistics import (
    AMOUNT,
    DEAD_LETTERS,
    DECISION,
    FLAGGED,
    FLAGGED_HOUR,
    HOUR,
    HOURS_OF_A_DAY,
    LATENESS,
    LATENESS_EDGES,
    OF_TRAFFIC,
    SCORE,
    divides,
    hourly_statistics,
)
from beam_fraud.monitoring.drift.summary import Counts, Measure, Summary

#: Days of the figures, and days before them with which segments are compared.
RECENT, _EARLIER = 7, 28
#: Stability index from which a change is moderate, and large.
MODERATE, LARGE = 0.1, 0.25
#: Product of index and weight from which a change since training is an alarm: growth moves counts
#: of merchants, for example, and a score that hardly reads them does not mind.
_MATTERS = 0.1


@dataclass(frozen=True)
class Alarm:
    """A change that is not usual."""

    #: Name for people.
    what: str
    #: `volume`, `share`, `missing`, `unseen`, `profile`, `dead_letters`, `late`, `hour` or
    #: `reference`.
    kind: str
    #: The measure: a feature, `score`, `flagged`, `hour`, `decision`, `amount`, `volume`,
    #: `dead_letters` or `lateness`.
    measure: str
    #: `column=value`; None for all rows.
    segment: str | None
    #: First day of the change, and the day whose figures raised the alarm; ISO 8601.
    since: str
    raised: str
    #: Last day of the change; None while it goes on.
    until: str | None
    #: Size of the change: of volume and shares the difference, of profiles the stability index.
    size: float
    #: Value and usual value on the clearest day.
    observed: float
    expected: float
    #: Probability of such a day where nothing has changed; None against the training rows.
    p: float | None
    #: From 0 to 1: how much the score depends on it; 1 for score, decisions and volume.
    weight: float
    #: What to do.
    advice: str
    #: End of its snooze, ISO 8601, UTC; None if it is not snoozed.
    snoozed_until: str | None = None

    @property
    def figure(self) -> str:
        """Its name: the figure, and the segment if it is of one."""
        return self.what if self.segment is None else f"{self.what} of {self.segment}"

    @property
    def snoozed_by(self) -> tuple[str, ...]:
        """Names that snooze it: its own, and that of its feature, with all figures of it."""
        of_feature = self.kind in ("missing", "unseen", "profile", "reference")
        return (self.figure, self.measure) if of_feature else (self.figure,)


@dataclass(frozen=True)
class MeasureFigures:
    """A measure of the last days against the bundle's reference, or against earlier days."""

    name: str
    #: `column=value`; None for all rows.
    segment: str | None
    #: What it is compared with: `training` rows, or `earlier days`, the four weeks before.
    against: str
    #: Rows with a value.
    rows: int
    #: Stability index, Jensen-Shannon divergence (nats), and bounds of the Kolmogorov-Smirnov
    #: distance; None without a reference, or of categories.
    psi: float | None
    js: float | None
    ks: float | None
    ks_most: float | None
    #: Shares of rows without a value, now and in the reference.
    missing: float
    missing_reference: float | None
    #: Share of values that the model does not know; None of numbers.
    unseen: float | None
    #: From 0 to 1: how much the score depends on it.
    weight: float

    @property
    def state(self) -> str:
        """The index in a word."""
        if self.psi is None:
            return "unknown"
        return "large" if self.psi >= LARGE else "moderate" if self.psi >= MODERATE else "stable"


@dataclass(frozen=True)
class Window:
    """A day."""

    day: str
    rows: int
    #: Share of flagged rows; None without rows.
    flagged: float | None
    #: Whether it was judged.
    judged: bool
    #: Alarms raised on it.
    alarms: int


@dataclass(frozen=True)
class Hour:
    """An hour of the last day, against the same hour and weekday of earlier weeks."""

    hour: int
    rows: int
    #: None without enough history.
    usual_rows: float | None
    #: Share of flagged rows; None without rows, or without enough history.
    flagged: float | None
    usual_flagged: float | None
    #: Whether the hour is known to be over; others are not judged.
    over: bool


@dataclass(frozen=True)
class RecordFigures:
    """A share of the records of the last seven whole days, and of the four weeks before."""

    #: `dead letters`, the reason of some, or `late rows` and how late they are.
    what: str
    #: Records of the last days.
    count: int
    #: Shares; None without records.
    share: float | None
    earlier: float | None


@dataclass(frozen=True)
class DriftReport:
    """Everything that `monitor` says, JSON-compatible."""

    model_id: str
    rows: int
    rows_other_models: int
    dead_letters: dict[str, int]
    #: Statistics that are judged together each day, and false alarms a day that are accepted.
    tests: int
    false_alarms_a_day: float
    alarms: tuple[Alarm, ...]
    features: tuple[MeasureFigures, ...]
    score: MeasureFigures
    #: `rows_a_day` of the last days, `usual` of their weekdays.
    volume: dict[str, float | None]
    windows: tuple[Window, ...]
    #: The last day by hour; empty where hours are not counted.
    hours: tuple[Hour, ...] = ()
    #: Dead letters and lateness.
    records: tuple[RecordFigures, ...] = ()
    #: Dead letters without a readable time, which belong to no day.
    dead_letters_undated: int = 0
    #: What cannot be told from these rows, and why.
    notes: tuple[str, ...] = ()

    @property
    def open_alarms(self) -> tuple[Alarm, ...]:
        """Alarms that go on at the last judged day."""
        return tuple(alarm for alarm in self.alarms if alarm.until is None)

    @property
    def loud_alarms(self) -> tuple[Alarm, ...]:
        """Alarms that go on and are not snoozed."""
        return tuple(alarm for alarm in self.open_alarms if alarm.snoozed_until is None)


@dataclass(frozen=True)
class Monitored:
    """Inputs of a report."""

    model_id: str
    summary: Summary
    #: Measure to its rows of the reference by bin, int64[bins].
    reference: Mapping[str, Counts]
    #: Feature to its weight, from 0 to 1.
    weights: Mapping[str, float]
    rows_other_models: int = 0
    dead_letters: Mapping[str, int] | None = None
    dead_letters_undated: int = 0
    notes: tuple[str, ...] = ()
    #: Time zone of days and hours.
    zone: tzinfo = UTC


def report_of(
    monitored: Monitored,
    rate: float,
    *,
    since: str | None = None,
    complete: bool | None = None,
    now: datetime | None = None,
) -> DriftReport:
    """Judge the days, and compare the last ones with the reference.

    Args:
      monitored: summary, reference and weights.
      rate: false alarms a day over everything together.
      since: first day to judge, ISO 8601; None for the first with enough history.
      complete: whether the last day is over; None: if it has rows of its last two hours.
      now: a time, by which the days and hours before it are over, also those without rows, and
        rows of later days do not count; None: by `complete`.
    """
    summary = monitored.summary.every_day()
    if now is not None:
        now = now.astimezone(monitored.zone)
        summary, running = _up_to(summary, now.date()), now.hour
    else:
        running = _running(summary, complete)
    complete = running == HOURS_OF_A_DAY
    skipped = _clock_changes(summary, monitored.zone)
    days = summary.days.astype("datetime64[D]").astype(str)
    first = 0 if since is None else int(np.searchsorted(days, since))
    judgement = judge(summary, rate, running=running, since=first, skipped=skipped)
    alarms = [*_alarms(monitored, summary, judgement, days)]
    whole = len(days) if complete else len(days) - 1
    alarms += _against_reference(monitored, summary, days, whole)
    figures = [
        _figures(monitored, summary, whole, measure, group)
        for group in range(len(summary.layout.groups))
        for measure in summary.layout.measures
        if measure.name not in OF_TRAFFIC and not divides(summary.layout, group, measure.name)
    ]
    raised = [alarm.raised for alarm in alarms]
    return DriftReport(
        model_id=monitored.model_id,
        rows=int(summary.of(DECISION).sum()),
        rows_other_models=monitored.rows_other_models,
        dead_letters=dict(monitored.dead_letters or {}),
        tests=judgement.tests,
        false_alarms_a_day=rate,
        alarms=tuple(sorted(alarms, key=lambda one: (one.raised, -one.weight))),
        features=tuple(one for one in figures if one.name != SCORE),
        score=next(one for one in figures if one.name == SCORE),
        volume=_volume(summary, whole),
        windows=tuple(
            Window(day, int(rows), None if not rows else hits / rows, bool(done), raised.count(day))
            for day, rows, hits, done in zip(
                days.tolist(),
                summary.of(DECISION).sum(axis=1).tolist(),
                summary.of(FLAGGED)[:, 1].tolist(),
                judgement.judged.tolist(),
                strict=True,
            )
        ),
        hours=_hours(summary, running, skipped),
        records=_records(summary, whole),
        dead_letters_undated=monitored.dead_letters_undated,
        notes=monitored.notes,
    )


def _running(summary: Summary, complete: bool | None) -> int:
    """Return the first hour of the last day that is not over; 24 if the day is over.

    No hour of an unfinished day is known to be over: files of a stream appear at different times.
    """
    if complete is None:
        # The bin after these is of rows without an hour.
        complete = bool(summary.of(HOUR)[-1, HOURS_OF_A_DAY - 2 : HOURS_OF_A_DAY].sum())
    return HOURS_OF_A_DAY if complete else 0


def _up_to(summary: Summary, today: date) -> Summary:
    """Return the summary with every day up to a day, also where there are no rows."""
    last = (today - date(1970, 1, 1)).days
    kept = summary.days <= last
    days, counts = summary.days[kept], summary.counts[kept]
    if len(days) and days[-1] < last:
        days = np.append(days, last)
        counts = np.concatenate([counts, np.zeros((1, *counts.shape[1:]), np.int64)])
    return Summary(summary.layout, days, counts).every_day()


def _clock_changes(summary: Summary, zone: tzinfo) -> npt.NDArray[np.bool_] | None:
    """Return the days on which an hour is missing or comes twice, bool[d]; None in UTC."""
    if zone is UTC:
        return None
    first = datetime(1970, 1, 1, tzinfo=zone)
    offsets = [
        (first + timedelta(days=int(day))).utcoffset()
        for day in (*summary.days, *(summary.days[-1:] + 1))
    ]
    return np.array([a != b for a, b in pairwise(offsets)], np.bool_)


def _hours(
    summary: Summary, running: int, skipped: npt.NDArray[np.bool_] | None
) -> tuple[Hour, ...]:
    found = list(hourly_statistics(summary, running=HOURS_OF_A_DAY, skipped=skipped))
    rows = summary.of(HOUR)[-1]
    flagged = summary.of(FLAGGED_HOUR)[-1] if found else rows
    return tuple(
        Hour(
            hour,
            int(rows[hour]),
            _known(volume.expected[-1]),
            float(flagged[hour] / rows[hour]) if rows[hour] else None,
            _known(rate.expected[-1]),
            hour < running,
        )
        for hour, (volume, rate) in enumerate(zip(found[::2], found[1::2], strict=True))
    )


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _records(summary: Summary, whole: int) -> tuple[RecordFigures, ...]:
    """Return figures of dead letters and lateness, as far as they are counted."""
    found: list[RecordFigures] = []
    scored = summary.of(DECISION).sum(axis=1)[:whole]

    def add(what: str, hits: Counts, records: Counts) -> None:
        shares = [
            float(hits[part].sum() / records[part].sum()) if records[part].sum() else None
            for part in (slice(-RECENT, None), slice(-RECENT - _EARLIER, -RECENT))
        ]
        found.append(RecordFigures(what, int(hits[-RECENT:].sum()), *shares))

    if (letters := summary.layout.measure(DEAD_LETTERS)) is not None:
        dead = summary.of(DEAD_LETTERS)[:whole]
        records = scored + dead.sum(axis=1)
        add("dead letters", dead.sum(axis=1), records)
        for place, reason in enumerate((*letters.categories, "other reasons")):
            add(f"dead letters of {reason}", dead[:, place], records)
    if summary.layout.measure(LATENESS) is not None:
        known = summary.of(LATENESS)[:whole, :-1]
        for place, edge in enumerate(LATENESS_EDGES):
            what = f"rows over {_span(edge)} late" if edge else "rows behind the newest"
            add(what, known[:, place + 1 :].sum(axis=1), known.sum(axis=1))
    return tuple(found)


def _span(seconds: float) -> str:
    """Return a length of time in its largest whole unit.

    Example:
      >>> _span(600.0), _span(86_400.0)
      ('10 min', '1 d')
    """
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def _volume(summary: Summary, whole: int) -> dict[str, float | None]:
    rows = summary.of(DECISION).sum(axis=1)[:whole]
    recent = rows[-RECENT:]
    earlier = rows[:-RECENT][-_EARLIER:]
    return {
        "rows_a_day": float(recent.mean()) if len(recent) else None,
        "usual": float(earlier.mean()) if len(earlier) else None,
    }


def _figures(
    monitored: Monitored, summary: Summary, whole: int, measure: Measure, group: int
) -> MeasureFigures:
    name = measure.name
    daily = summary.of(name, group)[:whole]
    total = daily[-RECENT:].sum(axis=0)
    present, missing = total[:-1], int(total[-1])
    rows = int(present.sum())
    # The training rows of a segment are unknown: its own earlier days stand for them.
    earlier = daily[:-RECENT][-_EARLIER:].sum(axis=0)
    known = monitored.reference.get(name) if group == 0 else earlier
    numeric = measure.kind == "numeric"
    compared = known is not None and rows > 0 and int(known[:-1].sum()) > 0
    ks = kolmogorov_smirnov(present, known[:-1]) if known is not None and compared else None
    return MeasureFigures(
        name,
        summary.layout.groups[group] or None,
        "training" if group == 0 else "earlier days",
        rows,
        float(psi(present, known[:-1])) if known is not None and compared else None,
        float(jensen_shannon(present, known[:-1])) if known is not None and compared else None,
        ks.least if ks is not None and numeric else None,
        ks.most if ks is not None and numeric else None,
        missing / max(rows + missing, 1),
        None if known is None else float(known[-1] / max(known.sum(), 1)),
        None if numeric else float(present[-1] / max(rows, 1)),
        _weight(monitored, name),
    )


def _weight(monitored: Monitored, measure: str) -> float:
    if measure in (HOUR, AMOUNT) and measure not in monitored.weights:
        return 0.0
    return monitored.weights.get(measure, 1.0)


def _alarms(
    monitored: Monitored, summary: Summary, judgement: Judgement, days: npt.NDArray[np.str_]
) -> list[Alarm]:
    groups = summary.layout.groups
    return [
        Alarm(
            what=found.what,
            kind=found.kind,
            measure=found.measure,
            segment=groups[found.group] or None,
            since=str(days[found.since]),
            raised=str(days[found.raised]),
            until=None if found.open else str(days[found.last]),
            size=found.observed - found.expected,
            observed=found.observed,
            expected=found.expected,
            p=found.p,
            weight=_weight(monitored, found.measure),
            advice=_advice(found),
        )
        for found in judgement.findings
    ]


def _against_reference(
    monitored: Monitored, summary: Summary, days: npt.NDArray[np.str_], whole: int
) -> list[Alarm]:
    """Return an alarm for each feature that is far from the training rows before any is judged.

    Later, a sudden change differs from earlier weeks, and a slow one is no alarm: growth alone
    moves counts of merchants far in some months. The score is left out: that of the reference is
    of a fit on fewer rows.
    """
    alarms = []
    for measure in summary.layout.measures:
        known = monitored.reference.get(measure.name)
        if known is None or not known[:-1].sum() or measure.name == SCORE:
            continue
        daily, weight = summary.of(measure.name)[:whole, :-1], _weight(monitored, measure.name)
        ends = range(RECENT, whole + 1, RECENT)
        index = [_excess(daily[end - RECENT : end].sum(axis=0), known[:-1]) for end in ends]
        large = [one >= LARGE and one * weight >= _MATTERS for one in index]
        early = large[: MIN_HISTORY // RECENT]
        if not any(early):
            continue
        first = early.index(True)
        last = first
        while last + 1 < len(large) and large[last + 1]:
            last += 1
        alarms.append(
            Alarm(
                what=f"{measure.name} against the training rows",
                kind="reference",
                measure=measure.name,
                segment=None,
                since=str(days[first * RECENT]),
                raised=str(days[(first + 1) * RECENT - 1]),
                until=None if last + 1 == len(large) else str(days[(last + 1) * RECENT - 1]),
                size=index[first],
                observed=index[first],
                expected=0.0,
                p=None,
                weight=weight,
                advice=_REFERENCE,
            )
        )
    return alarms


def _excess(counts: Counts, known: Counts) -> float:
    """Return the index above what chance alone makes of so few rows."""
    if not counts.sum():
        return 0.0
    chance = (len(counts) - 1) * (1 / counts.sum() + 1 / known.sum())
    return float(psi(counts, known) - chance)


_REFERENCE = (
    "The model was trained on other values. See whether the feature is computed from the same "
    "columns, units and --history as in training; if it is, retrain."
)
_ADVICE = {
    "volume": "Look for a source that stopped or sends twice, then for a campaign or a holiday.",
    "share": (
        "Look at the flagged rows of these days: a wave of fraud, or the opposite, a kind of fraud "
        "that the model no longer sees. Label a random share (--audit-share) before retraining."
    ),
    "missing": "A source has stopped filling the column, or its format has changed: ask its owner.",
    "unseen": (
        "The model does not know these values and scores all of them alike. See who sends them, "
        "label some of their rows, and retrain on them."
    ),
    "dead_letters": (
        "A source sends records that cannot be read: `dead-letters list` shows them with the "
        "reason; repair the source or the schema, then replay them."
    ),
    "late": (
        "A source lags, or sends old rows again: look at its queue. Windows of late rows miss what "
        "came after them."
    ),
    "hour": (
        "Rows are missing, or many more, at this hour: look at the source now, then for a campaign "
        "or a holiday."
    ),
    "profile": (
        "See in the report which values have become more frequent, and whether a source, a product "
        "or fraud has changed; a changed unit or currency shows here first."
    ),
}


def _advice(found: Finding) -> str:
    if found.measure == HOUR and found.kind == "profile":
        return "Rows are missing, or come late, at some hours: look at the source and its lag."
    if found.measure == LATENESS:
        return _ADVICE["late"]
    return _ADVICE["share" if found.measure == FLAGGED else found.kind]
