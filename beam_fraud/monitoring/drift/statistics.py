"""The daily statistics that alarms watch: volume, shares of rows, and profiles of values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from beam_fraud.monitoring.drift.divergence import Floats, jensen_shannon, psi
from beam_fraud.monitoring.drift.summary import Layout, Measure, Summary

Kind: TypeAlias = Literal[
    "volume", "share", "missing", "unseen", "profile", "dead_letters", "late", "hour"
]
#: Names of measures of every archive.
HOUR, AMOUNT, SCORE, DECISION, FLAGGED = "hour", "amount", "score", "decision", "flagged"
#: The hours of flagged rows; dead letters by reason, which are no rows; seconds behind the newest
#: event time at the arrival, where it is known.
FLAGGED_HOUR, DEAD_LETTERS, LATENESS = "flagged_hour", "dead_letters", "lateness"
#: Measures that say nothing of the model's input, and have no reference.
OF_TRAFFIC = frozenset({HOUR, DECISION, FLAGGED, FLAGGED_HOUR, DEAD_LETTERS, LATENESS})
#: Upper bounds of lateness in seconds: none, a minute, ten, an hour, six, a day, a week.
LATENESS_EDGES = (0.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0)
#: Rows that are later than this are late, seconds.
LATE = 600.0
HOURS_OF_A_DAY = 24
#: Ratio from which an hour's volume differs: a few accounts may move an hour. And flagged rows that
#: are usual in an hour whose flag rate is judged: one campaign would move fewer.
_HOURLY_RATIO, _HOURLY_FLAGGED = 1.5, 10
#: Earlier weeks whose same weekday is the usual.
WEEKS = 6
#: A window of fewer rows says too little of shares, and of fewer for each bin, of profiles.
MIN_ROWS, MIN_ROWS_OF_BIN = 100, 20
#: A window of fewer rows of a segment may be moved by one merchant.
MIN_ROWS_OF_SEGMENT = 500
#: Edges of the score's bins above this share of the reference are one share: that of high scores.
_HIGH = 0.99


@dataclass(frozen=True)
class Statistic:
    """One figure a day of one group of rows."""

    #: Name for people, such as `unseen values of TERMINAL_TYPE`.
    what: str
    kind: Kind
    #: Name of its measure; "volume" for the number of rows.
    measure: str
    #: Index of its group in `Layout.groups`.
    group: int
    #: float64[d]: its value; a share, a number of rows, or the stability index of a profile.
    observed: Floats
    #: float64[d]: the value that is usual for the weekday.
    expected: Floats
    #: float64[d]: how far it is from the usual, on a scale with an even spread; NaN: unknown.
    residual: Floats
    #: How far a day is from single other days.
    apart: Apart
    #: float64[d]: least spread of a residual, by chance alone.
    floor: Floats
    #: Whether the change is large enough to matter, bool[d].
    large: npt.NDArray[np.bool_]
    #: Name that statistics share that are one test, of which the clearest counts; "": it is alone.
    family: str = ""


@dataclass(frozen=True)
class Apart:
    """How far a day is from another day."""

    #: float64[d]; the distance is the difference of two.
    level: Floats | None = None
    #: int64[d, bins]; the distance is the divergence of two.
    profile: npt.NDArray[np.int64] | None = None
    #: How many rows a row of the profile stands for.
    weight: float = 1.0

    def residual(self, day: int, other: int, residual: Floats) -> float:
        """Return the residual of a day against another one instead of the usual."""
        if self.profile is not None:
            return float(_scaled(self.profile[day], self.profile[other], self.weight))
        return float(residual[day] - residual[other])


def statistics_of(summary: Summary, window: int) -> Iterator[Statistic]:
    """Yield all statistics over the last `window` days of each day.

    Args:
      summary: with every day (`Summary.every_day`).
      window: days.
    """
    layout = summary.layout
    for group in range(len(layout.groups)):
        yield _volume(summary, group, window)
        for measure in layout.measures:
            if divides(layout, group, measure.name) or measure.name == FLAGGED_HOUR:
                continue
            if group and measure.name in (DEAD_LETTERS, LATENESS):
                continue
            counts = _windows(summary.of(measure.name, group), window)
            of = _Group(group, layout.stands_for if group == 0 else 1.0)
            if measure.name == DEAD_LETTERS:
                rows = _windows(summary.of(DECISION, group), window).sum(axis=1)
                yield from _dead_letters(measure, counts, rows, of)
                continue
            yield from _shares(measure, counts, of)
            if measure.name != FLAGGED:
                yield _profile(measure, counts, of)


def hourly_statistics(
    summary: Summary, *, running: int = HOURS_OF_A_DAY, skipped: npt.NDArray[np.bool_] | None = None
) -> Iterator[Statistic]:
    """Yield volume and flag rate of each hour of all rows: an outage shows on the same day.

    Hours of one figure are one family, so that 24 of them are one test among all.

    Args:
      summary: with every day (`Summary.every_day`).
      running: first hour of the last day that is not over.
      skipped: bool[d], days whose hours are not those of a clock; None for none.
    """
    if summary.layout.measure(FLAGGED_HOUR) is None:
        return
    unknown = np.zeros((len(summary.days), HOURS_OF_A_DAY), np.bool_)
    if len(unknown):
        unknown[-1, running:] = True
    if skipped is not None:
        unknown[skipped] = True
    rows, flagged = summary.of(HOUR), summary.of(FLAGGED_HOUR)
    measure = Measure(FLAGGED, "categorical", categories=("passed", "flagged"))
    of = _Group(0, summary.layout.stands_for)
    for hour in range(HOURS_OF_A_DAY):
        time = f"{hour:02d}:00"
        volume = _volume_of(rows[:, hour], _HOURLY_RATIO, unknown[:, hour], of.weight)
        yield replace(volume, what=f"volume at {time}", kind="hour", family="volume by hour")
        rate = _share("", "hour", measure, flagged[:, hour], rows[:, hour], of)
        with np.errstate(invalid="ignore"):
            few = ~(rate.expected * rows[:, hour] >= _HOURLY_FLAGGED)
        yield replace(
            rate,
            what=f"flag rate at {time}",
            residual=np.where(unknown[:, hour] | few, np.nan, rate.residual),
            family="flag rate by hour",
        )


@dataclass(frozen=True)
class _Group:
    """A group of rows."""

    number: int
    #: How many rows a counted row stands for.
    weight: float = 1.0

    @property
    def least(self) -> float:
        """Rows of a window without which its shares and profiles are not judged."""
        return (MIN_ROWS if self.number == 0 else MIN_ROWS_OF_SEGMENT) * self.weight


def divides(layout: Layout, group: int, measure: str) -> bool:
    """Return whether a group is one of the values of a measure, which says nothing of it."""
    return group > 0 and layout.groups[group].startswith((f"{measure}=", f"{measure}: "))


def _windows(counts: npt.NDArray[np.int64], window: int) -> npt.NDArray[np.int64]:
    """Return sums over the last `window` days, int64[d, ...]; 0 where there are fewer days."""
    sums = np.cumsum(counts, axis=0)
    sums[window:] = sums[window:] - sums[:-window].copy()
    sums[: window - 1] = 0
    return sums


def _earlier(values: npt.NDArray[np.generic], fill: float = np.nan) -> Floats:
    """Return the values of the same weekday of `WEEKS` earlier weeks, float64[weeks, d, ...]."""
    floats = values.astype(np.float64)
    lagged = np.full((WEEKS, *floats.shape), fill)
    for week in range(1, WEEKS + 1):
        if 7 * week < len(floats):
            lagged[week - 1, 7 * week :] = floats[: -7 * week]
    return lagged


def median(values: Floats) -> Floats:
    """Return the median of the known values along the first axis; NaN without any."""
    # numpy.nanmedian falls back to a loop and warns of empty slices.
    ordered = np.sort(values, axis=0)
    known = (~np.isnan(values)).sum(axis=0)
    low = np.maximum((known - 1) // 2, 0)[None]
    high = np.maximum(known // 2, 0)[None]
    high = np.minimum(high, len(values) - 1)
    middle: Floats = (
        np.take_along_axis(ordered, low, axis=0) + np.take_along_axis(ordered, high, axis=0)
    )[0] / 2
    return middle


def _volume(summary: Summary, group: int, window: int) -> Statistic:
    # Every row has a decision.
    rows = _windows(summary.of(DECISION, group), window).sum(axis=1)
    unknown = np.arange(len(rows)) < window - 1
    weight = summary.layout.stands_for if group == 0 else 1.0
    return replace(_volume_of(rows, 1.2, unknown, weight), group=group)


def _volume_of(
    rows: npt.NDArray[np.int64],
    ratio: float,
    unknown: npt.NDArray[np.bool_],
    weight: float,
) -> Statistic:
    level = np.log(rows + 0.5)
    level[unknown] = np.nan
    usual = median(_earlier(level))
    residual = level - usual
    expected = np.exp(usual)
    with np.errstate(invalid="ignore"):
        residual = np.where(expected >= MIN_ROWS * weight, residual, np.nan)
        large = np.abs(residual) >= np.log(ratio)
        floor = np.sqrt(weight / np.maximum(expected, 1.0))
    return Statistic(
        "volume",
        "volume",
        "volume",
        0,
        rows.astype(np.float64),
        expected,
        residual,
        Apart(level=level),
        floor,
        large,
    )


def _shares(measure: Measure, counts: npt.NDArray[np.int64], of: _Group) -> Iterator[Statistic]:
    rows = counts.sum(axis=1)
    missing = counts[:, -1]
    if measure.name == FLAGGED:
        yield _share("flag rate", "share", measure, counts[:, 1], rows, of)
        return
    if measure.name in (HOUR, DECISION):
        return
    if measure.name == LATENESS:
        known = counts[:, :-1]
        late = known[:, 1 + LATENESS_EDGES.index(LATE) :].sum(axis=1)
        yield _share("late rows", "late", measure, late, known.sum(axis=1), of)
        return
    if measure.name == SCORE:
        # The edges of the score are dense above the reference's 99th percentile.
        if len(measure.edges) > 3:
            high = counts[:, -4:-1].sum(axis=1)
            yield _share("share of high scores", "share", measure, high, rows, of)
        return
    yield _share(f"missing values of {measure.name}", "missing", measure, missing, rows, of)
    if measure.kind == "categorical":
        unseen = counts[:, -2]
        yield _share(
            f"unseen values of {measure.name}", "unseen", measure, unseen, rows - missing, of
        )


def _dead_letters(
    measure: Measure,
    counts: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    of: _Group,
) -> Iterator[Statistic]:
    """Yield the share of dead letters among all records, in total and of each reason."""
    records = rows + counts.sum(axis=1)
    yield _share("dead letters", "dead_letters", measure, counts.sum(axis=1), records, of)
    if measure.bins == 2:
        # One reason, which is the total.
        return
    for place, reason in enumerate((*measure.categories, "other reasons")):
        what = f"dead letters of {reason}"
        yield _share(what, "dead_letters", measure, counts[:, place], records, of)


def _share(
    what: str,
    kind: Kind,
    measure: Measure,
    hits: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    of: _Group,
) -> Statistic:
    # Flagged rows and dead letters are all known: the number of rows is estimated alone.
    counted = measure.name in (FLAGGED, DEAD_LETTERS)
    # The arc sine evens the spread of shares out (Anscombe 1948): 1 / sqrt(rows).
    level = 2 * np.arcsin(np.sqrt((hits + 0.375) / (rows + 0.75)))
    level = np.where(rows >= of.least, level, np.nan)
    earlier_rows = _earlier(rows, 0.0)
    usual_rows = earlier_rows.sum(axis=0)
    usual = median(_earlier(level))
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = hits / rows
        expected = _earlier(hits, 0.0).sum(axis=0) / usual_rows
        excess = np.abs(observed - expected)
        ratio = np.maximum(observed, expected) / np.maximum(np.minimum(observed, expected), 1e-300)
        few = 5 * (1.0 if counted else of.weight)
        large = ((ratio >= 1.5) | (excess >= 0.05)) & (excess * rows >= few)
        noise = 1 + (of.weight - 1) * (expected if counted else 1.0)
        floor = np.sqrt(noise * (1 / rows + 1.57 / usual_rows))
    return Statistic(
        what,
        kind,
        measure.name,
        of.number,
        observed,
        expected,
        level - usual,
        Apart(level=level),
        floor,
        large,
    )


def _profile(measure: Measure, counts: npt.NDArray[np.int64], of: _Group) -> Statistic:
    present = counts[:, :-1]
    rows = present.sum(axis=1)
    enough = rows >= max(of.least, MIN_ROWS_OF_BIN * measure.bins * of.weight)
    shares = np.where(enough[:, None], present / np.maximum(rows, 1)[:, None], np.nan)
    usual = median(_earlier(shares))
    usual_rows = _earlier(rows, 0.0).sum(axis=0)
    known = enough & ~np.isnan(usual).any(axis=1)
    usual = np.where(known[:, None], usual, 1.0)
    usual /= np.maximum(usual.sum(axis=1, keepdims=True), 1e-300)
    table = usual * usual_rows[:, None]
    residual = np.where(known, _scaled(present, table, of.weight), np.nan)
    index = np.where(known, psi(present, table), np.nan)
    with np.errstate(invalid="ignore"):
        large = index >= 0.1
    return Statistic(
        f"distribution of {measure.name}",
        "profile",
        measure.name,
        of.number,
        index,
        np.zeros(len(index)),
        residual,
        Apart(profile=present, weight=of.weight),
        np.full(len(index), 0.3),
        large,
    )


def _scaled(one: npt.NDArray[np.int64], other: npt.NDArray[np.generic], weight: float) -> Floats:
    """Return the logarithm of a divergence in units of chance, for rows of both.

    For two samples of one distribution, 8 JS / (1/n + 1/m) is about chi-squared.
    """
    table = other.astype(np.float64)
    n, m = one.sum(axis=-1), table.sum(axis=-1)
    both = 1 / (1 / np.maximum(n, 1) + 1 / np.maximum(m, 1)) / weight
    scaled: Floats = np.log1p(8 * jensen_shannon(one, table) * both)
    return scaled
