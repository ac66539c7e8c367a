"""Rows drawn again with replacement, as counts of the cells that they fall in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from beam_fraud.evaluation.cuts import Cuts
from beam_fraud.evaluation.rows import Floats, Ints, Labels

#: Numbers of a block of resamples at most: 32 MB.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Stratum:
    """Units that are drawn in place of each other; those that count alike are one group."""

    #: int64[groups]: units of each.
    sizes: Ints
    #: For each model, what a unit adds to its cells' frauds: sparse [cells, groups].
    frauds: tuple[Any, ...]
    #: The same for genuine rows.
    genuine: tuple[Any, ...]


def strata_of_rows(labels: Labels, cuts: Sequence[Cuts]) -> tuple[Stratum, ...]:
    """Rows are the units; frauds are drawn among frauds, and genuine rows among genuine ones.

    Args:
      labels: int8[n], 1 is fraud.
      cuts: of the same rows by each model.
    """
    return tuple(_of_rows(labels == label, cuts, bool(label)) for label in (1, 0))


def strata_of_accounts(labels: Labels, accounts: Ints, cuts: Sequence[Cuts]) -> tuple[Stratum, ...]:
    """Accounts are the units, with all their rows; those with a fraud are drawn among such.

    Rows of one account resemble each other: drawing them one by one would promise too much.

    Args:
      labels: int8[n], 1 is fraud.
      accounts: int64[n], from 0 on.
      cuts: of the same rows by each model.
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
    """Draw as many units of each stratum as it has, `count` times.

    Args:
      strata: of all units.
      cuts: of the models.
      count: how many resamples.
      seed: of the draws.

    Yields:
      For each model, float64[b, cells] of frauds and of genuine rows; blocks of b resamples that
      are `count` together. Models share the draws, so that they can be compared.
    """
    random = np.random.default_rng(seed)
    widest = max(sum(len(s.sizes) for s in strata), *(3 * c.count for c in cuts))
    at_once = max(1, _BLOCK // widest)
    for start in range(0, count, at_once):
        size = min(at_once, count - start)
        found = [[np.zeros((size, c.count)), np.zeros((size, c.count))] for c in cuts]
        for stratum in strata:
            units = int(stratum.sizes.sum())
            if not units:
                continue
            drawn = random.multinomial(units, stratum.sizes / units, size=size).T.astype(float)
            for place, _ in enumerate(cuts):
                found[place][0] += (stratum.frauds[place] @ drawn).T
                found[place][1] += (stratum.genuine[place] @ drawn).T
        yield tuple((frauds, genuine) for frauds, genuine in found)


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
