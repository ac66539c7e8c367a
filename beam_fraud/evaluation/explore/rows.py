"""The explored transactions, with their columns by type."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.features.calendar import local_time
from beam_fraud.features.matrix import FeatureSet, numeric_feature
from beam_fraud.schema.event_time import event_micros
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
        """Whether both classes occur, which comparisons need."""
        return bool(self.fraud.any() and self.genuine.any())

    def numbers(self, name: str) -> Floats:
        """Return a numeric feature, float64[n], NaN where it is absent."""
        return numeric_feature(self.transactions, name, self.features)

    def texts(self, name: str) -> pa.StringArray:
        """Return a column of text, string[n], null where it is absent."""
        return self.transactions.column(name).combine_chunks()

    def local_micros(self) -> Whole:
        """Event times as local times of the schema's time zone, int64[n] microseconds."""
        timezone = self.features.schema.timezone
        if timezone == "UTC":
            return event_micros(self.transactions)
        shown = pc.local_timestamp(local_time(self.transactions.column("event_time"), timezone))
        return np.asarray(shown.cast(pa.int64()), dtype=np.int64)


def explored_rows(transactions: pa.Table, schema: Schema) -> Rows:
    """Return the rows of a table of `load_dataset`; labels are optional."""
    rows = transactions.num_rows
    fraud, genuine = np.zeros(rows, dtype=bool), np.zeros(rows, dtype=bool)
    if "label" in transactions.schema.names:
        labels = np.asarray(transactions.column("label").fill_null(-1), dtype=np.int8)
        fraud, genuine = labels == 1, labels == 0
    return Rows(transactions, FeatureSet(schema), fraud, genuine)
