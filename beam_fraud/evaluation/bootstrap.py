"""Confidence intervals of ranking figures, by resampling rows or accounts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from beam_fraud.evaluation.rows import Floats, Ints, Labels
from beam_fraud.monitoring.activity import doing

#: The figures of `Cuts.figures`, in order.
FIGURES = ("average_precision", "roc_auc", "precision", "recall", "f1")


@dataclass(frozen=True)
class Cuts:
    """The scores of n rows in 2k + 1 cells, highest first.

    The k cuts are the distinct scores of frauds, and the threshold. Cell 2i + 1 holds the rows with
    the score of cut i, cell 2i those between it and the cut above. Genuine rows of a cell count
    equally in every ranking figure, so n rows reduce to a few hundred counts.
    """

    #: float64[k], falling.
    values: Floats
    #: int64[n]: the cell of each row.
    cells: Ints
    #: The cell of rows whose score is the threshold.
    threshold_cell: int

    @property
    def count(self) -> int:
        """Number of cells."""
        return 2 * len(self.values) + 1

    def figures(
        self, frauds: npt.NDArray[np.float64], genuine: npt.NDArray[np.float64]
    ) -> dict[str, Floats]:
        """Return the ranking figures of b sets of rows, given by their counts per cell.

        Average precision is the sum, over the distinct scores of frauds, of the share of frauds
        that have it times the precision there. The area under the receiver operating
        characteristic is the chance that a fraud scores above a genuine row, a tie counting half.

        Args:
          frauds: float64[b, cells], weights of frauds.
          genuine: float64[b, cells], weights of genuine rows.

        Returns:
          float64[b] for each of `FIGURES`; NaN where one class leaves it undefined.
        """
        caught, alarms = np.cumsum(frauds, axis=1), np.cumsum(genuine, axis=1)
        here = slice(1, None, 2)
        hits, total = frauds[:, here], caught[:, -1:]
        at = self.threshold_cell
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = caught[:, here] / (caught[:, here] + alarms[:, here])
            steps = np.where(hits > 0, hits * precision, 0.0)
            below = alarms[:, -1:] - alarms[:, here] + genuine[:, here] / 2
            flagged = caught[:, at] + alarms[:, at]
            both = (caught[:, -1] > 0) & (alarms[:, -1] > 0)
            values = (
                np.where(both, steps.sum(axis=1) / total[:, 0], np.nan),
                (hits * below).sum(axis=1) / (total[:, 0] * alarms[:, -1]),
                caught[:, at] / flagged,
                caught[:, at] / caught[:, -1],
                2 * caught[:, at] / (flagged + caught[:, -1]),
            )
        return dict(zip(FIGURES, values, strict=True))


def cuts_of(labels: Labels, scores: Floats, threshold: float) -> Cuts:
    """Cut scores at those of frauds and at the threshold.

    Args:
      labels: int8[n], 1 is fraud.
      scores: float64[n].
      threshold: a score of at least this is flagged.
    """
    rising = np.unique(np.append(scores[labels == 1], threshold))
    left = np.searchsorted(rising, scores, side="left")
    right = np.searchsorted(rising, scores, side="right")
    place = len(rising) - 1 - int(np.searchsorted(rising, threshold))
    return Cuts(rising[::-1].copy(), 2 * len(rising) - left - right, 2 * place + 1)


#: Maximum of numbers in a block of resamples: 32 MB.
MOST_NUMBERS = 4_000_000


@dataclass(frozen=True)
class Stratum:
    """A stratum of units to resample; units with equal counts form one group."""

    #: int64[groups]: units of each.
    sizes: Ints
    #: Per model, frauds that a unit adds to its cells: sparse [cells, groups].
    frauds: tuple[Any, ...]
    #: The same for genuine rows.
    genuine: tuple[Any, ...]


def strata_of_rows(labels: Labels, cuts: Sequence[Cuts]) -> tuple[Stratum, ...]:
    """Return strata of rows: frauds, and genuine rows.

    Args:
      labels: int8[n], 1 is fraud.
      cuts: cuts of the same rows by each model.
    """
    return tuple(_of_rows(labels == label, cuts, bool(label)) for label in (1, 0))


def strata_of_accounts(labels: Labels, accounts: Ints, cuts: Sequence[Cuts]) -> tuple[Stratum, ...]:
    """Return strata of accounts with all their rows: with a fraud, and without.

    Rows of one account resemble each other: resampling rows would give too narrow intervals.

    Args:
      labels: int8[n], 1 is fraud.
      accounts: int64[n], from 0 on.
      cuts: cuts of the same rows by each model.
    """
    units = np.unique(accounts, return_inverse=True)[1]
    defrauded = np.bincount(units, labels) > 0
    strata = []
    for members in (defrauded, ~defrauded):
        place = np.cumsum(members) - 1
        rows, fraud = members[units], labels == 1
        parts = [
            tuple(_counts(c, c.cells[of], place[units[of]], int(members.sum())) for c in cuts)
            for of in (rows & fraud, rows & ~fraud)
        ]
        strata.append(Stratum(np.ones(int(members.sum()), np.int64), parts[0], parts[1]))
    return tuple(strata)


def resamples(
    strata: Sequence[Stratum], cuts: Sequence[Cuts], count: int, seed: int
) -> Iterator[tuple[tuple[Floats, Floats], ...]]:
    """Resample each stratum with replacement, `count` times.

    Args:
      strata: strata of all units.
      cuts: of the models.
      count: number of resamples.
      seed: of the draws.

    Yields:
      For each model, float64[b, cells] of frauds and of genuine rows; blocks of b resamples that
      are `count` together. Models share the draws, so that they can be compared.
    """
    random = np.random.default_rng(seed)
    widest = max(sum(len(s.sizes) for s in strata), *(3 * c.count for c in cuts))
    at_once = max(1, MOST_NUMBERS // widest)
    for start in range(0, count, at_once):
        size = min(at_once, count - start)
        totals = [[np.zeros((size, c.count)), np.zeros((size, c.count))] for c in cuts]
        for stratum in strata:
            units = int(stratum.sizes.sum())
            if not units:
                continue
            drawn = random.multinomial(units, stratum.sizes / units, size=size).T.astype(float)
            for place, _ in enumerate(cuts):
                totals[place][0] += (stratum.frauds[place] @ drawn).T
                totals[place][1] += (stratum.genuine[place] @ drawn).T
        yield tuple((frauds, genuine) for frauds, genuine in totals)


def _of_rows(rows: Any, cuts: Sequence[Cuts], fraud: bool) -> Stratum:
    # Rows in the same cells of every model are one group.
    groups = np.zeros(int(rows.sum()), dtype=np.int64)
    for cut in cuts:
        groups = np.unique(groups * cut.count + cut.cells[rows], return_inverse=True)[1]
    count = int(groups.max(initial=-1)) + 1
    first = np.zeros(count, dtype=np.int64)
    first[groups] = np.arange(len(groups))
    full = tuple(_counts(c, c.cells[rows][first], np.arange(count), count) for c in cuts)
    none = tuple(csr_array((c.count, count)) for c in cuts)
    sizes = np.bincount(groups, minlength=count)
    return Stratum(sizes, full, none) if fraud else Stratum(sizes, none, full)


def _counts(cuts: Cuts, cells: Ints, groups: Ints, count: int) -> Any:
    ones = np.ones(len(cells))
    return csr_array((ones, (cells, groups)), shape=(cuts.count, count))


#: Share of the resamples that an interval covers.
COVERED = 0.95
#: Maximum of draws of a bootstrap: some seconds; many units get fewer resamples.
_MOST_DRAWS = 30_000_000
#: Minimum of resamples.
_FEWEST = 100


@dataclass(frozen=True)
class Interval:
    """The 95 % percentile interval of a figure."""

    #: The 2.5th percentile.
    low: float
    #: The 97.5th.
    high: float


@dataclass(frozen=True)
class Difference:
    """The difference of a figure between two models on the same rows."""

    #: One of `cuts.FIGURES`.
    figure: str
    #: The model's figure minus the first model's.
    value: float
    #: Interval of the difference, from shared resamples.
    interval: Interval
    #: Share of the resamples in which the model was better, a tie counting half.
    better: float


@dataclass(frozen=True)
class Bootstrap:
    """Figures of m models on resamples of the same rows."""

    #: The units: single rows, or accounts with all their rows.
    unit: Literal["rows", "accounts"]
    #: Number of resamples.
    resamples: int
    #: Of the draws.
    seed: int
    #: Figure to float64[m, resamples].
    figures: dict[str, Floats]
    #: Figure to float64[m]: on the rows themselves.
    observed: dict[str, Floats]

    def interval(self, figure: str, model: int) -> Interval | None:
        """Return the percentile interval of a figure; None where it is not defined."""
        return interval_of(self.figures[figure][model])

    def intervals(self, model: int) -> dict[str, Interval | None]:
        """Return the intervals of all figures of a model."""
        return {figure: self.interval(figure, model) for figure in FIGURES}

    def differences(self, model: int) -> tuple[Difference, ...]:
        """Return the differences of a model from the first, of all defined figures."""
        differences = []
        for figure in FIGURES:
            moved = self.figures[figure][model] - self.figures[figure][0]
            value = float(self.observed[figure][model] - self.observed[figure][0])
            interval = interval_of(moved)
            if interval is not None and not np.isnan(value):
                better = float(np.mean(moved > 0) + np.mean(moved == 0) / 2)
                differences.append(Difference(figure, value, interval, better))
        return tuple(differences)


def bootstrap(
    labels: Labels,
    scores: Sequence[Floats],
    thresholds: Sequence[float],
    *,
    accounts: Ints | None = None,
    count: int = 1000,
    seed: int = 0,
) -> Bootstrap:
    """Resample rows, or accounts if known, and measure models on every resample.

    Args:
      labels: int8[n], 1 is fraud; n > 0.
      scores: float64[n] of each model.
      thresholds: the threshold of each model.
      accounts: int64[n], from 0 on; None resamples rows.
      count: number of resamples; reduced if there are too many units.
      seed: of the draws; equal seeds give equal results.
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


def affordable_resamples(requested: int, units: int) -> int:
    """Return the number of resamples to make, of those asked, for so many units.

    Example:
      >>> affordable_resamples(1000, 5_000), affordable_resamples(1000, 10**6)
      (1000, 100)
    """
    return min(requested, max(_FEWEST, _MOST_DRAWS // units))


def interval_of(values: Floats) -> Interval | None:
    """Return the percentile interval of resampled values, float64[n]; None if all are NaN."""
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, [(1 - COVERED) / 2, (1 + COVERED) / 2])
    return Interval(float(low), float(high))
