"""How far figures would move on other rows of the same kind: the stratified bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from beam_fraud.activity import doing
from beam_fraud.evaluation.cuts import FIGURES, cuts_of
from beam_fraud.evaluation.resampling import resamples, strata_of_accounts, strata_of_rows
from beam_fraud.evaluation.rows import Floats, Ints, Labels

#: Share of the resamples that an interval covers.
COVERED = 0.95
#: Draws that a bootstrap makes at most: some seconds; fewer resamples where units are many.
_MOST_DRAWS = 30_000_000
#: Resamples at least, however many the units.
_FEWEST = 100


@dataclass(frozen=True)
class Interval:
    """Where a figure lies in 95 of 100 resamples."""

    #: The 2.5th percentile.
    low: float
    #: The 97.5th.
    high: float


@dataclass(frozen=True)
class Difference:
    """By how much a model's figure is above another's on the same rows."""

    #: One of `cuts.FIGURES`.
    figure: str
    #: Model's figure less that of the first model.
    value: float
    #: Of the difference, both models on the same resamples.
    interval: Interval
    #: Share of the resamples in which the model was better, a tie counting half.
    better: float


@dataclass(frozen=True)
class Bootstrap:
    """Figures of m models on resamples of the same rows."""

    #: What was drawn: single rows, or accounts with all their rows.
    unit: Literal["rows", "accounts"]
    #: How often.
    resamples: int
    #: Of the draws.
    seed: int
    #: Figure to float64[m, resamples].
    figures: dict[str, Floats]
    #: Figure to float64[m]: on the rows themselves.
    observed: dict[str, Floats]

    def interval(self, figure: str, model: int) -> Interval | None:
        """The percentile interval of a figure; None where it is not defined."""
        return _interval(self.figures[figure][model])

    def intervals(self, model: int) -> dict[str, Interval | None]:
        """Those of all figures of a model."""
        return {figure: self.interval(figure, model) for figure in FIGURES}

    def differences(self, model: int) -> tuple[Difference, ...]:
        """How a model compares with the first; figures that are not defined are left out."""
        found = []
        for figure in FIGURES:
            moved = self.figures[figure][model] - self.figures[figure][0]
            value = float(self.observed[figure][model] - self.observed[figure][0])
            interval = _interval(moved)
            if interval is not None and not np.isnan(value):
                better = float(np.mean(moved > 0) + np.mean(moved == 0) / 2)
                found.append(Difference(figure, value, interval, better))
        return tuple(found)


def bootstrap(
    labels: Labels,
    scores: Sequence[Floats],
    thresholds: Sequence[float],
    *,
    accounts: Ints | None = None,
    count: int = 1000,
    seed: int = 0,
) -> Bootstrap:
    """Resample rows, or accounts where there are any, and measure models on every resample.

    Args:
      labels: int8[n], 1 is fraud; n > 0.
      scores: float64[n] of each model.
      thresholds: from which score each flags.
      accounts: int64[n], from 0 on; None draws rows.
      count: resamples; fewer are made where units are so many that they would take long.
      seed: of the draws: the same gives the same.
    """
    cuts = [cuts_of(labels, s, t) for s, t in zip(scores, thresholds, strict=True)]
    strata = (
        strata_of_rows(labels, cuts)
        if accounts is None
        else strata_of_accounts(labels, accounts, cuts)
    )
    units = sum(len(stratum.sizes) for stratum in strata)
    count = affordable_resamples(count, units)
    parts: dict[str, list[list[Floats]]] = {name: [[] for _ in cuts] for name in FIGURES}
    done = 0
    with doing("resampling", lambda: f"{done:,} of {count:,}"):
        for block in resamples(strata, cuts, count, seed):
            for place, (frauds, genuine) in enumerate(block):
                for name, values in cuts[place].figures(frauds, genuine).items():
                    parts[name][place].append(values)
            done += len(block[0][0]) if block else 0
    observed: dict[str, list[float]] = {name: [] for name in FIGURES}
    for cut in cuts:
        frauds, genuine = (
            np.bincount(cut.cells[labels == label], minlength=cut.count)[None, :].astype(float)
            for label in (1, 0)
        )
        for name, values in cut.figures(frauds, genuine).items():
            observed[name].append(float(values[0]))
    return Bootstrap(
        unit="rows" if accounts is None else "accounts",
        resamples=count,
        seed=seed,
        figures={name: np.array([np.concatenate(v) for v in p]) for name, p in parts.items()},
        observed={name: np.array(values) for name, values in observed.items()},
    )


def affordable_resamples(asked: int, units: int) -> int:
    """How many resamples are made of those asked for, where each draws so many units.

    Example:
      >>> affordable_resamples(1000, 5_000), affordable_resamples(1000, 10**6)
      (1000, 100)
    """
    return min(asked, max(_FEWEST, _MOST_DRAWS // units))


def _interval(values: Floats) -> Interval | None:
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, [(1 - COVERED) / 2, (1 + COVERED) / 2])
    return Interval(float(low), float(high))
