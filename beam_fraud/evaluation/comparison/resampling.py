"""Intervals of figures of all sides, by resampling accounts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from beam_fraud.evaluation.bootstrap import (
    MOST_NUMBERS,
    Cuts,
    Difference,
    Interval,
    affordable_resamples,
    interval_of,
)
from beam_fraud.evaluation.comparison.figures import Prices
from beam_fraud.evaluation.comparison.ranking import Ranking
from beam_fraud.evaluation.comparison.tally import Arrays
from beam_fraud.evaluation.rows import Floats, Ints
from beam_fraud.monitoring.activity import doing

#: The figures that have intervals; of these, less is better.
FIGURES = (
    "average_precision",
    "precision",
    "recall",
    "caught",
    "false_alarms",
    "amount_saved",
    "net_cost",
)
_LESS_IS_BETTER = ("false_alarms", "net_cost")
#: Cuts that stay single, and maximum of further ones.
_MOST_CUTS = 1_000


@dataclass(frozen=True)
class Resamples:
    """Figures on resamples of the accounts; sides share the draws."""

    #: Number of resamples.
    count: int
    #: Figure to float64[sides, count]; NaN where it is undefined.
    drawn: dict[str, Floats]

    def intervals(self, side: int) -> dict[str, Interval | None]:
        """Return the intervals of a side."""
        return {name: interval_of(self.drawn[name][side]) for name in FIGURES}

    def differences(
        self, side: int, observed: Sequence[dict[str, float | None]]
    ) -> tuple[Difference, ...]:
        """Return the first side's figures minus another's.

        Args:
          side: the other side.
          observed: figures of each side on the rows themselves.
        """
        found = []
        for name in FIGURES:
            new, old = observed[0][name], observed[side][name]
            moved = self.drawn[name][0] - self.drawn[name][side]
            interval = interval_of(moved)
            if new is None or old is None or interval is None:
                continue
            gained = -moved if name in _LESS_IS_BETTER else moved
            better = float(np.mean(gained > 0) + np.mean(gained == 0) / 2)
            found.append(Difference(name, new - old, interval, better))
        return tuple(found)


def resample(
    kept: Arrays, rankings: Sequence[Ranking], prices: Prices, *, count: int, seed: int
) -> Resamples:
    """Measure all sides on resamples of the accounts.

    The weight of an account is a Poisson draw of mean 1, the limit of drawing with replacement
    among many accounts ("Poisson bootstrap": Chamandy, Muralidharan, Najmi and Naidu, 2012). Only
    flagged rows and frauds count in these figures, except in average precision, where each of the
    other genuine rows is drawn for itself.

    Args:
      kept: arrays of the rows that are flagged or fraud.
      rankings: ranking of each side.
      prices: of the net cost.
      count: number of resamples; reduced if there are too many accounts.
      seed: of the draws.
    """
    counted = kept.take(kept.mature & (kept.labels >= 0))
    units = _numbered(counted.accounts)
    size = int(units.max(initial=-1)) + 1
    count = affordable_resamples(count, max(size, 1))
    random = np.random.default_rng(seed)
    sums = [_sums(counted, side, units, size) for side, _ in enumerate(rankings)]
    cells = [
        _cells(counted, kept, side, units, size, ranking) for side, ranking in enumerate(rankings)
    ]
    widest = max([size, *(2 * part.cuts.count for part in cells), 1])
    at_once = max(1, MOST_NUMBERS // widest)
    parts: dict[str, list[list[Floats]]] = {name: [[] for _ in rankings] for name in FIGURES}
    done = 0
    with doing("resampling accounts", lambda: f"{done:,} of {count:,}"):
        while done < count:
            block = min(at_once, count - done)
            weights = random.poisson(1.0, (block, size)).astype(np.float64)
            for side, part in enumerate(cells):
                rest = random.poisson(part.rest, (block, len(part.rest)))
                drawn_frauds = (part.frauds @ weights.T).T
                drawn_genuine = (part.flagged @ weights.T).T + rest
                ranked = part.cuts.figures(drawn_frauds, drawn_genuine)
                values = _figures(weights @ sums[side], prices)
                values["average_precision"] = ranked["average_precision"]
                for name in FIGURES:
                    parts[name][side].append(values[name])
            done += block
    return Resamples(
        count, {name: np.array([np.concatenate(v) for v in p]) for name, p in parts.items()}
    )


def _numbered(accounts: np.ndarray) -> Ints:
    """Number accounts in the order of their first rows: hashes differ from run to run."""
    _, first, places = np.unique(accounts, return_index=True, return_inverse=True)
    ranks = np.empty(len(first), dtype=np.int64)
    ranks[np.argsort(first)] = np.arange(len(first))
    return ranks[places]


def _sums(rows: Arrays, side: int, units: Ints, size: int) -> Floats:
    """Return float64[units, 5]: caught, missed, false alarms, amounts of caught and missed."""
    flagged, fraud = rows.flagged[side], rows.labels == 1
    money = np.maximum(rows.amounts, 0)
    caught, missed = flagged & fraud, ~flagged & fraud
    weights = (caught, missed, flagged & ~fraud, caught * money, missed * money)
    return np.stack([np.bincount(units, w.astype(float), size) for w in weights], axis=1)


def _figures(totals: Floats, prices: Prices) -> dict[str, Floats]:
    caught, missed, alarms, saved, lost = totals.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "precision": caught / (caught + alarms),
            "recall": caught / (caught + missed),
            "caught": caught,
            "false_alarms": alarms,
            "amount_saved": saved,
            "net_cost": prices.cost(missed, lost, alarms),
        }


@dataclass(frozen=True)
class _Cells:
    """The rows of a side by cell of its scores."""

    cuts: Cuts
    #: Sparse [cells, units]: frauds, and genuine rows among the kept ones.
    frauds: Any
    flagged: Any
    #: int64[cells]: other genuine rows.
    rest: Ints


def _cells(
    counted: Arrays, kept: Arrays, side: int, units: Ints, size: int, ranking: Ranking
) -> _Cells:
    places, count = _coarse(len(ranking.cuts.values))
    cells = places[ranking.cuts.cells[kept.mature & (kept.labels >= 0)]]
    parts = []
    for label in (1, 0):
        own = counted.labels == label
        ones = np.ones(int(own.sum()))
        parts.append(csr_array((ones, (cells[own], units[own])), shape=(2 * count + 1, size)))
    genuine = np.bincount(places, ranking.genuine, 2 * count + 1).astype(np.int64)
    known = np.bincount(cells[counted.labels == 0], minlength=2 * count + 1)
    cuts = Cuts(np.zeros(count), np.zeros(0, dtype=np.int64), 1)
    return _Cells(cuts, parts[0], parts[1], genuine - known)


def _coarse(cuts: int) -> tuple[Ints, int]:
    """Join cuts of low scores, which differ little in precision.

    Args:
      cuts: number of cuts, from the highest score down.

    Returns:
      int64[2 * cuts + 1], the new cell of each cell (`Cuts`), and the number of new cuts.
    """
    if cuts <= 2 * _MOST_CUTS:
        return np.arange(2 * cuts + 1), cuts
    starts = np.arange(_MOST_CUTS)
    later = np.geomspace(_MOST_CUTS, cuts - 1, _MOST_CUTS).astype(np.int64)
    starts = np.unique(np.append(starts, later))
    group = np.searchsorted(starts, np.arange(cuts), side="right") - 1
    # Rows between a cut and the one above belong to its group.
    places = np.append(np.repeat(2 * group + 1, 2), 2 * len(starts))
    return places, len(starts)
