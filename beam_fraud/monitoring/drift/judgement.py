"""Alarms: which days differ from all that is usual, at a stated rate of false alarms.

Each statistic of a day is compared with the same weekday of earlier weeks. Its residuals of the
last weeks, not a formula, say how far it usually strays: rows of one account or one campaign
belong together, so counts spread more than independent rows. Their centre takes a steady growth
out. A day that stands out as the same days of an earlier month did, such as a pay day, is usual.

The tests of one day are judged together (Benjamini and Hochberg 1995): where nothing has changed,
the chance of any alarm on a day is at most the stated rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from beam_fraud.monitoring.drift.divergence import Floats
from beam_fraud.monitoring.drift.statistics import (
    HOURS_OF_A_DAY,
    Kind,
    Statistic,
    hourly_statistics,
    median,
    statistics_of,
)
from beam_fraud.monitoring.drift.summary import Summary

#: Days whose residuals say how far a statistic strays.
HISTORY = 42
#: Days before the first that is judged.
MIN_HISTORY = 35
#: Residuals without which a day is not judged.
_MIN_RESIDUALS = 12
#: Windows of days that are judged together: a change of a day, and one that takes two to see.
_WINDOWS = (1, 2)
#: Days of a week and of a month around which a pay day may move.
_MONTHS, _SHIFT = 3, 1
#: Probability below which a day still belongs to an alarm, and days without that end it.
_LASTING, _QUIET_DAYS = 0.05, 3
#: Residual, in units of the spread, of a day that stood out in an earlier month.
_UNUSUAL = 3.0
#: Days before a day that do not say what is usual: a change may have begun on them.
_LAST_DAYS = 2
#: Clip of residuals in units of the robust spread.
_CLIP = 3.0
#: Spread of a normal distribution in units of its median absolute deviation.
_NORMAL = 1.4826


@dataclass(frozen=True)
class Finding:
    """An alarm: a statistic that differs from what is usual over some days."""

    what: str
    kind: Kind
    measure: str
    #: Index of the group of rows.
    group: int
    #: Indices of days: since when, when it was raised, and the last day that differs.
    since: int
    raised: int
    last: int
    #: Whether it goes on at the last day.
    open: bool
    #: Value and usual value on the day with the least probability, and that probability.
    observed: float
    expected: float
    p: float


@dataclass(frozen=True)
class Judgement:
    """All alarms, and which days were judged."""

    findings: tuple[Finding, ...]
    #: bool[d].
    judged: npt.NDArray[np.bool_]
    #: Statistics of a day.
    tests: int


@dataclass
class _Series:
    """One statistic over the windows, or a family."""

    statistics: list[Statistic] = field(default_factory=list)
    probabilities: list[Floats] = field(default_factory=list)

    def combined(self) -> tuple[Floats, npt.NDArray[np.intp]]:
        """Return the probability of each day over the statistics, and which of them decides."""
        table = np.stack(self.probabilities)
        known = (~np.isnan(table)).sum(axis=0)
        filled = np.where(np.isnan(table), 2.0, table)
        best = filled.argmin(axis=0)
        least = filled.min(axis=0)
        return np.where(known > 0, np.minimum(least * known, 1.0), np.nan), best


def judge(
    summary: Summary,
    rate: float,
    *,
    running: int = HOURS_OF_A_DAY,
    since: int = 0,
    skipped: npt.NDArray[np.bool_] | None = None,
) -> Judgement:
    """Judge the days of a summary.

    Args:
      summary: counts of the days; days between them without rows count as such.
      rate: false alarms a day over everything together, such as 1 / 30.
      running: first hour of the last day that is not over; below 24, only the hours before it are
        judged of this day.
      since: index of the first day to judge, from the first day of the summary.
      skipped: bool[d]: days whose hours are not judged, as clocks change; None for none.

    Returns:
      The alarms by the day they were raised, then by probability.
    """
    every = summary.every_day()
    whole = every
    if running < HOURS_OF_A_DAY:
        whole = Summary(every.layout, every.days[:-1], every.counts[:-1])
    judged = np.zeros(len(every.days), np.bool_)
    judged[max(MIN_HISTORY, since) : len(whole.days)] = True
    comparable = _comparable(every.days)
    series: dict[tuple[str, int], _Series] = {}
    daily = (one for window in _WINDOWS for one in statistics_of(whole, window))
    for statistic in chain(daily, hourly_statistics(every, running=running, skipped=skipped)):
        key = (statistic.family or statistic.what, statistic.group)
        one = series.setdefault(key, _Series())
        one.statistics.append(statistic)
        one.probabilities.append(_probabilities(statistic, comparable))
    if not series or not judged.any():
        return Judgement((), judged, len(series))
    combined = [one.combined() for one in series.values()]
    table = np.full((len(combined), len(every.days)), np.nan)
    for place, (p, _) in enumerate(combined):
        table[place, : len(p)] = p
    # Of an unfinished day hours alone have a probability.
    rejected = _rejected(table, rate)
    rejected[:, : max(MIN_HISTORY, since)] = False
    findings = [
        finding
        for place, one in enumerate(series.values())
        for finding in _episodes(one, *combined[place], rejected[place, : len(combined[place][0])])
    ]
    return Judgement(tuple(sorted(findings, key=lambda f: (f.raised, f.p))), judged, len(series))


def _probabilities(statistic: Statistic, comparable: Sequence[Sequence[int]]) -> Floats:
    """Return the probability of each day's residual where nothing has changed, float64[d]."""
    residual = statistic.residual
    centre, spread, count, lowest, highest = _usual(residual)
    spread = np.maximum(spread, np.nan_to_num(statistic.floor, nan=0.0))
    sides = 1 if statistic.kind == "profile" else 2
    # Consecutive residuals share days and campaigns, so they tell of fewer independent ones.
    freedom = np.maximum(count / 3, 3.0)

    def tail(away: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            z = away / spread
            probability: Floats = np.minimum(
                stats.t.sf(z if sides == 1 else np.abs(z), freedom) * sides, 1.0
            )
        return probability

    away = residual - centre
    for day in np.flatnonzero(tail(away) < _LASTING).tolist():
        direction = float(np.sign(away[day]))
        for other in comparable[day]:
            # An ordinary day says nothing of an unusual one.
            if not (residual[other] - centre[day]) * direction > _UNUSUAL * spread[day]:
                continue
            single = statistic.apart.residual(day, other, residual)
            if sides == 1:
                away[day] = np.fmin(away[day], single - centre[day])
            elif abs(single) < abs(away[day]):
                away[day] = single
    # Some statistics have far days now and then: what is not beyond all of them is no alarm.
    beyond = away + centre > highest
    if sides == 2:
        beyond |= away + centre < lowest
    p = np.where(beyond, tail(away), np.maximum(tail(away), 1 / (count + 1)))
    return np.where(count >= _MIN_RESIDUALS, p, np.nan)


class _Usual(NamedTuple):
    """Centre and spread of a statistic on each day, from the days before it."""

    centre: Floats
    spread: Floats
    #: Number of the days before, int64[d].
    days: npt.NDArray[np.int64]
    lowest: Floats
    highest: Floats


def _usual(residual: Floats) -> _Usual:
    """Return what is usual for each day by the residuals of the days before it."""
    lagged = np.full((HISTORY, len(residual)), np.nan)
    for place in range(HISTORY):
        back = place + 1 + _LAST_DAYS
        if back < len(residual):
            lagged[place, back:] = residual[:-back]
    count = (~np.isnan(lagged)).sum(axis=0)
    centre = median(lagged)
    robust = _NORMAL * median(np.abs(lagged - centre))
    # Far days, such as pay days, are clipped; near ones all count, which a median would waste.
    clipped = np.clip(lagged - centre, -_CLIP * robust, _CLIP * robust)
    squares = np.nansum(clipped**2, axis=0) / np.maximum(count - 1, 1)
    lowest = np.where(np.isnan(lagged), np.inf, lagged).min(axis=0)
    highest = np.where(np.isnan(lagged), -np.inf, lagged).max(axis=0)
    return _Usual(centre, np.sqrt(squares), count, lowest, highest)


def _comparable(days: npt.NDArray[np.int64]) -> list[list[int]]:
    """Return the earlier days of about the same place in a month, for each day."""
    dates = days.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    of_month = (dates - months.astype("datetime64[D]")).astype(np.int64)
    number = months.astype(np.int64)
    ends = ((months + 1).astype("datetime64[D]") - dates).astype(np.int64)
    found: list[list[int]] = []
    for day in range(len(days)):
        earlier = (number[:day] < number[day]) & (number[:day] >= number[day] - _MONTHS)
        near = np.abs(of_month[:day] - of_month[day]) <= _SHIFT
        near |= np.abs(ends[:day] - ends[day]) <= _SHIFT
        # Not last week's: those are the usual already.
        found.append(np.flatnonzero(earlier & near & (day - np.arange(day) > 14)).tolist())
    return found


def _rejected(table: Floats, rate: float) -> npt.NDArray[np.bool_]:
    """Return which statistics differ on each day, bool[statistics, d]."""
    ordered = np.sort(np.where(np.isnan(table), 2.0, table), axis=0)
    tests = np.maximum((~np.isnan(table)).sum(axis=0), 1)
    ranks = np.arange(1, len(table) + 1)[:, None]
    passes = ordered <= rate * ranks / tests
    last = np.where(passes.any(axis=0), len(table) - 1 - passes[::-1].argmax(axis=0), -1)
    limit = np.where(last >= 0, ordered[np.maximum(last, 0), np.arange(table.shape[1])], -1.0)
    with np.errstate(invalid="ignore"):
        differs: npt.NDArray[np.bool_] = table <= limit
    return differs


def _episodes(
    series: _Series,
    p: Floats,
    window: npt.NDArray[np.intp],
    rejected: npt.NDArray[np.bool_],
) -> list[Finding]:
    """Join the days of one statistic that differ to alarms."""
    found: list[Finding] = []
    large = np.stack([one.large for one in series.statistics])
    lasting = np.nan_to_num(p, nan=1.0) < _LASTING
    end = -1
    for raised in np.flatnonzero(rejected).tolist():
        if raised <= end or not large[window[raised], raised]:
            continue
        last = raised
        while lasting[last + 1 : last + 1 + _QUIET_DAYS].any():
            last += 1 + int(lasting[last + 1 :].argmax())
        since = raised
        while since > 0 and lasting[since - 1] and raised - since < 7:
            since -= 1
        worst = raised + int(np.nan_to_num(p[raised : last + 1], nan=1.0).argmin())
        one = series.statistics[int(window[worst])]
        found.append(
            Finding(
                what=one.what,
                kind=one.kind,
                measure=one.measure,
                group=one.group,
                since=since,
                raised=raised,
                last=last,
                open=last + _QUIET_DAYS >= len(p),
                observed=float(one.observed[worst]),
                expected=float(one.expected[worst]),
                p=float(p[worst]),
            )
        )
        end = last + _QUIET_DAYS
    return found
