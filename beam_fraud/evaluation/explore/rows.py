"""The transactions that are explored, and the rate of frauds in groups of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.evaluation.rows import clock_micros
from beam_fraud.features.matrix import FeatureSet, numeric_feature
from beam_fraud.schema.schema import Schema

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """n transactions in time order."""

    #: `Schema.transactions` and velocity features, each column one chunk.
    transactions: pa.Table
    #: The features of a model.
    features: FeatureSet
    #: bool[n]: labelled as fraud.
    fraud: Mask
    #: bool[n]: labelled as genuine; a row in neither has no label.
    genuine: Mask

    def __len__(self) -> int:
        return int(self.transactions.num_rows)

    @property
    def numeric(self) -> tuple[str, ...]:
        """Names of the features that are numbers."""
        categorical = set(self.categorical)
        return tuple(name for name in self.features.names if name not in categorical)

    @property
    def categorical(self) -> tuple[str, ...]:
        """Names of the features that are categories."""
        return tuple(self.features.names[place] for place in self.features.categorical)

    @property
    def both_classes(self) -> bool:
        """Return whether both classes occur, which comparisons need."""
        return bool(self.fraud.any() and self.genuine.any())

    def numbers(self, name: str) -> Floats:
        """Return a numeric feature, float64[n], NaN where it is absent."""
        return numeric_feature(self.transactions, name, self.features)

    def texts(self, name: str) -> pa.StringArray:
        """Return a column of text, string[n], null where it is absent."""
        return self.transactions.column(name).combine_chunks()

    def local_micros(self) -> Whole:
        """Event times as local times of the schema's time zone, int64[n] microseconds."""
        return clock_micros(self.transactions.column("event_time"), self.features.schema.timezone)


def explored_rows(transactions: pa.Table, schema: Schema) -> Rows:
    """Return the rows of a table of `load_dataset`; labels are optional."""
    rows = transactions.num_rows
    fraud, genuine = np.zeros(rows, dtype=bool), np.zeros(rows, dtype=bool)
    if "label" in transactions.schema.names:
        labels = np.asarray(transactions.column("label").fill_null(-1), dtype=np.int8)
        fraud, genuine = labels == 1, labels == 0
    return Rows(transactions, FeatureSet(schema), fraud, genuine)


#: Standard deviations within which 95 % of a normal distribution lies.
_Z = 1.959963984540054


@dataclass(frozen=True)
class Rate:
    """The fraud rate of a group."""

    #: Name of the group.
    group: str
    #: All rows.
    rows: int
    #: Labelled rows.
    labelled: int
    #: Frauds.
    frauds: int
    #: Frauds over labelled rows; None without any.
    rate: float | None
    #: Lower end of the rate's 95 % interval (Wilson); None without labels.
    low: float | None
    #: Its upper end.
    high: float | None


def wilson(hits: npt.ArrayLike, trials: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return the 95 % interval of a share, after Wilson (1927), which holds for rare events too.

    Args:
      hits: int[k].
      trials: int[k], all above 0.

    Returns:
      float64[k] each: lower and upper ends, in 0..1.
    """
    n = np.asarray(trials, dtype=np.float64)
    share = np.asarray(hits, dtype=np.float64) / n
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    # The interval of a share of 0 starts at 0, of 1 ends at 1, whatever the rounding.
    return np.where(share == 0, 0.0, middle - half), np.where(share == 1, 1.0, middle + half)


def rates(names: Sequence[str], codes: Whole, rows: Rows) -> tuple[Rate, ...]:
    """Return the rate of every group.

    Args:
      names: names of k groups.
      codes: int64[n], group of each row in 0 .. k - 1.
      rows: n rows.
    """
    count = len(names)
    every = np.bincount(codes, minlength=count)
    frauds = np.bincount(codes[rows.fraud], minlength=count)
    labelled = np.bincount(codes[rows.genuine], minlength=count) + frauds
    low, high = wilson(frauds, np.maximum(labelled, 1))
    return tuple(
        Rate(
            group=name,
            rows=int(every[place]),
            labelled=int(labelled[place]),
            frauds=int(frauds[place]),
            rate=float(frauds[place] / labelled[place]) if labelled[place] else None,
            low=float(low[place]) if labelled[place] else None,
            high=float(high[place]) if labelled[place] else None,
        )
        for place, name in enumerate(names)
    )
