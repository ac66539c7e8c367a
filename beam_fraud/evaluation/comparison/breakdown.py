"""Figures of the kept rows: outcomes, days, segments, accounts and the capacity curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from beam_fraud.evaluation.comparison.figures import (
    AccountFigures,
    Capacity,
    DayFlags,
    Outcome,
    Prices,
    SegmentOutcome,
    SegmentOutcomes,
)
from beam_fraud.evaluation.comparison.ranking import Grouping, Ranking, Rankings
from beam_fraud.evaluation.comparison.tally import Arrays
from beam_fraud.evaluation.rows import Floats, Ints
from beam_fraud.schema.duration import DAY

#: Points of the capacity curve.
_POINTS = 200
#: Numbers of alerts a day of tables.
ROUND_ALERTS = np.array([step * 10.0**power for power in range(-1, 9) for step in (1, 2, 5)])


def outcome_of(rows: Arrays, side: int, ranking: Ranking, prices: Prices) -> Outcome:
    """Return the results of a side on rows whose labels count.

    Args:
      rows: arrays of the rows that are flagged or fraud.
      side: number of the side.
      ranking: ranking of all rows.
      prices: of the net cost.
    """
    flagged, fraud = rows.flagged[side], rows.labels == 1
    caught, missed = flagged & fraud, ~flagged & fraud
    alarms = int(np.count_nonzero(flagged & (rows.labels == 0)))
    money = np.maximum(rows.amounts, 0)
    hits, misses = int(caught.sum()), int(missed.sum())
    saved, lost = float(money[caught].sum()), float(money[missed].sum())
    cost = prices.cost(float(misses), lost, float(alarms))
    return Outcome(
        flagged=int(flagged.sum()),
        unlabelled=int(flagged.sum()) - hits - alarms,
        caught=hits,
        missed=misses,
        false_alarms=alarms,
        precision=hits / (hits + alarms) if hits + alarms else None,
        recall=hits / (hits + misses) if hits + misses else None,
        average_precision=ranking.average_precision,
        amount_saved=saved,
        amount_missed=lost,
        net_cost=cost,
    )


def days_of(days: Mapping[int, int], kept: Arrays, sides: int) -> tuple[DayFlags, ...]:
    """Return flags by day, in order.

    Args:
      days: number of a day since 1970 to its rows.
      kept: arrays of the rows that are flagged or fraud.
      sides: number of sides.
    """
    numbers = np.array(sorted(days), dtype=np.int64)
    places = np.searchsorted(numbers, kept.clock // DAY)
    fraud = kept.labels == 1

    def counted(rows: np.ndarray) -> list[int]:
        return list(map(int, np.bincount(places[rows], minlength=len(numbers))))

    frauds = counted(fraud)
    flagged = [counted(kept.flagged[side]) for side in range(sides)]
    caught = [counted(kept.flagged[side] & fraud) for side in range(sides)]
    return tuple(
        DayFlags(
            date=str(np.datetime64(number, "D")),
            rows=days[number],
            frauds=frauds[place],
            flagged=tuple(counts[place] for counts in flagged),
            caught=tuple(counts[place] for counts in caught),
        )
        for place, number in enumerate(numbers.tolist())
    )


def segments_of(
    groupings: Sequence[Grouping],
    totals: Sequence[Ints],
    kept: Arrays,
    codes: Sequence[Ints],
    rankings: Sequence[Rankings],
    prices: Prices,
) -> tuple[SegmentOutcomes, ...]:
    """Return outcomes by segment.

    Args:
      groupings: the segmentations.
      totals: for each, int64[codes]: rows whose labels count.
      kept: arrays of the rows that are flagged or fraud.
      codes: for each segmentation, the code of each kept row.
      rankings: rankings of each side.
      prices: of the net cost.
    """
    tables = []
    for number, grouping in enumerate(groupings):
        places = grouping.places[codes[number]]
        rows = np.bincount(grouping.places, totals[number], len(grouping.names))
        segments = []
        for place, name in enumerate(grouping.names):
            if not rows[place]:
                continue
            own = kept.take((places == place) & kept.mature)
            outcomes = tuple(
                outcome_of(own, side, ranking.segments[number][place], prices)
                for side, ranking in enumerate(rankings)
            )
            frauds = int((own.labels == 1).sum())
            segments.append(SegmentOutcome(name, int(rows[place]), frauds, outcomes))
        tables.append(SegmentOutcomes(grouping.segmenter.name, tuple(segments)))
    return tuple(tables)


def accounts_of(rows: Arrays, side: int, days: int) -> AccountFigures:
    """Return what a side does for accounts.

    Args:
      rows: arrays of the rows that are flagged or fraud and old enough.
      side: number of the side.
      days: days that have such rows.
    """
    accounts, units = np.unique(rows.accounts, return_inverse=True)
    flagged, fraud = rows.flagged[side], rows.labels == 1
    ranks = np.empty(len(units), dtype=np.int64)
    # Ties in time are in the order of arrival.
    ranks[np.argsort(rows.times, kind="stable")] = np.arange(len(units))
    never = len(units)

    def first(of: np.ndarray) -> Ints:
        firsts = np.full(len(accounts), never)
        np.minimum.at(firsts, units[of], ranks[of])
        return firsts

    flag, theft, hit = first(flagged), first(fraud), first(flagged & fraud)
    stopped = fraud & (ranks >= flag[units])
    alerts = np.unique(np.stack([units[flagged], rows.clock[flagged] // DAY]), axis=1)
    return AccountFigures(
        flagged=int((flag < never).sum()),
        defrauded=int((theft < never).sum()),
        caught=int((hit < never).sum()),
        first_alert_is_fraud=int(((flag < never) & (flag == hit)).sum()),
        caught_at_first_fraud=int(((theft < never) & (theft == hit)).sum()),
        frauds_stopped=int(stopped.sum()),
        amount_stopped=float(np.maximum(rows.amounts[stopped], 0).sum()),
        alerts_per_day=alerts.shape[1] / max(days, 1),
    )


def capacity_of(rows: Arrays, side: int, ranking: Ranking, days: int) -> Capacity:
    """Return what the highest scores of a side catch, at the scores of frauds.

    Args:
      rows: arrays of rows that include all frauds, those for which `ranking` was made.
      side: number of the side.
      ranking: the ranking of all rows.
      days: days that have rows whose labels count.
    """
    fraud = rows.labels == 1
    cells = ranking.cuts.cells[fraud]
    losses = np.maximum(rows.amounts[fraud], 0)
    money = np.bincount(cells, losses, ranking.cuts.count).astype(np.float64)
    rows_above = np.cumsum(ranking.frauds + ranking.genuine + ranking.unlabelled)
    alerts: Ints = rows_above[1::2].astype(np.int64)
    caught: Ints = np.cumsum(ranking.frauds)[1::2].astype(np.int64)
    amount = np.cumsum(money)[1::2]
    per_day: Floats = alerts / max(days, 1)
    if len(alerts) > _POINTS:
        ends = np.geomspace(max(int(alerts[0]), 1), max(int(alerts[-1]), 1), _POINTS)
        # Round numbers of alerts stay exact (`caught_at`).
        exact = np.searchsorted(per_day, ROUND_ALERTS, side="right") - 1
        at = np.append(np.searchsorted(alerts, ends), exact)
        at = np.unique(np.clip(at, 0, len(alerts) - 1))
        return Capacity(per_day[at], caught[at], amount[at])
    return Capacity(per_day, caught, amount)


def caught_at(capacity: Capacity, alerts_per_day: float) -> tuple[int, float]:
    """Return the frauds, and their amount, among so many of the highest scores a day.

    The number is one of `ROUND_ALERTS`; the curve has no point for others.
    """
    place = int(np.searchsorted(capacity.alerts_per_day, alerts_per_day, side="right")) - 1
    if place < 0:
        return 0, 0.0
    return int(capacity.caught[place]), float(capacity.amount[place])
