"""The daily statistics that alarms watch: volume, shares of rows, and profiles of values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from beam_fraud.monitoring.drift.divergence import Floats, jensen_shannon, psi
from beam_fraud.monitoring.drift.summary import Layout, Measure, Summary

Kind: TypeAlias = Literal["volume", "share", "missing", "unseen", "profile"]
#: Names of measures of every archive.
HOUR, AMOUNT, SCORE, DECISION, FLAGGED = "hour", "amount", "score", "decision", "flagged"
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


@dataclass(frozen=True)
class Apart:
    """How far a day is from another day."""

    #: float64[d]; the distance is the difference of two.
    level: Floats | None = None
    #: int64[d, bins]; the distance is the divergence of two.
    profile: npt.NDArray[np.int64] | None = None

    def residual(self, day: int, other: int, residual: Floats) -> float:
        """Return the residual of a day against another one instead of the usual."""
        if self.profile is not None:
            return float(_scaled(self.profile[day], self.profile[other]))
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
            if divides(layout, group, measure.name):
                continue
            counts = _windows(summary.of(measure.name, group), window)
            yield from _shares(measure, counts, group)
            if measure.name != FLAGGED:
                yield _profile(measure, counts, group)


def _least(group: int) -> int:
    """Return the rows of a window without which shares and profiles of a group are not judged."""
    return MIN_ROWS if group == 0 else MIN_ROWS_OF_SEGMENT


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
    level = np.log(rows + 0.5)
    level[: window - 1] = np.nan
    usual = median(_earlier(level))
    residual = level - usual
    expected = np.exp(usual)
    with np.errstate(invalid="ignore"):
        residual = np.where(expected >= MIN_ROWS, residual, np.nan)
        large = np.abs(residual) >= np.log(1.2)
        floor = np.sqrt(1 / np.maximum(expected, 1.0))
    return Statistic(
        "volume",
        "volume",
        "volume",
        group,
        rows.astype(np.float64),
        expected,
        residual,
        Apart(level=level),
        floor,
        large,
    )


def _shares(measure: Measure, counts: npt.NDArray[np.int64], group: int) -> Iterator[Statistic]:
    rows = counts.sum(axis=1)
    missing = counts[:, -1]
    if measure.name == FLAGGED:
        yield _share("flag rate", "share", measure, counts[:, 1], rows, group)
        return
    if measure.name in (HOUR, DECISION):
        return
    if measure.name == SCORE:
        # The edges of the score are dense above the reference's 99th percentile.
        if len(measure.edges) > 3:
            high = counts[:, -4:-1].sum(axis=1)
            yield _share("share of high scores", "share", measure, high, rows, group)
        return
    yield _share(f"missing values of {measure.name}", "missing", measure, missing, rows, group)
    if measure.kind == "categorical":
        unseen = counts[:, -2]
        yield _share(
            f"unseen values of {measure.name}", "unseen", measure, unseen, rows - missing, group
        )


def _share(
    what: str,
    kind: Kind,
    measure: Measure,
    hits: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    group: int,
) -> Statistic:
    # The arc sine evens the spread of shares out (Anscombe 1948): 1 / sqrt(rows).
    level = 2 * np.arcsin(np.sqrt((hits + 0.375) / (rows + 0.75)))
    level = np.where(rows >= _least(group), level, np.nan)
    earlier_rows = _earlier(rows, 0.0)
    usual_rows = earlier_rows.sum(axis=0)
    usual = median(_earlier(level))
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = hits / rows
        expected = _earlier(hits, 0.0).sum(axis=0) / usual_rows
        excess = np.abs(observed - expected)
        ratio = np.maximum(observed, expected) / np.maximum(np.minimum(observed, expected), 1e-300)
        large = ((ratio >= 1.5) | (excess >= 0.05)) & (excess * rows >= 5)
        floor = np.sqrt(1 / rows + 1.57 / usual_rows)
    return Statistic(
        what,
        kind,
        measure.name,
        group,
        observed,
        expected,
        level - usual,
        Apart(level=level),
        floor,
        large,
    )


def _profile(measure: Measure, counts: npt.NDArray[np.int64], group: int) -> Statistic:
    present = counts[:, :-1]
    rows = present.sum(axis=1)
    enough = rows >= max(_least(group), MIN_ROWS_OF_BIN * measure.bins)
    shares = np.where(enough[:, None], present / np.maximum(rows, 1)[:, None], np.nan)
    usual = median(_earlier(shares))
    usual_rows = _earlier(rows, 0.0).sum(axis=0)
    known = enough & ~np.isnan(usual).any(axis=1)
    usual = np.where(known[:, None], usual, 1.0)
    usual /= np.maximum(usual.sum(axis=1, keepdims=True), 1e-300)
    table = usual * usual_rows[:, None]
    residual = np.where(known, _scaled(present, table), np.nan)
    index = np.where(known, psi(present, table), np.nan)
    with np.errstate(invalid="ignore"):
        large = index >= 0.1
    return Statistic(
        f"distribution of {measure.name}",
        "profile",
        measure.name,
        group,
        index,
        np.zeros(len(index)),
        residual,
        Apart(profile=present),
        np.full(len(index), 0.3),
        large,
    )


def _scaled(one: npt.NDArray[np.int64], other: npt.NDArray[np.generic]) -> Floats:
    """Return the logarithm of a divergence in units of chance, for rows of both.

    For two samples of one distribution, 8 JS / (1/n + 1/m) is about chi-squared.
    """
    table = other.astype(np.float64)
    n, m = one.sum(axis=-1), table.sum(axis=-1)
    both = 1 / (1 / np.maximum(n, 1) + 1 / np.maximum(m, 1))
    scaled: Floats = np.log1p(8 * jensen_shannon(one, table) * both)
    return scaled
