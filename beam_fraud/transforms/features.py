"""Transactions to the blocks of numbers that a model sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa

from beam_fraud.features.matrix import FeatureSet, feature_matrix, feature_table
from beam_fraud.transforms.counters import ROWS_OUT, count

#: Transactions and their features, float64[n, features].
Featured = tuple[pa.RecordBatch, np.ndarray]


@dataclass
class Features(beam.PTransform):
    """Transactions to pairs of transactions and features (`features.matrix`)."""

    #: Which features, in which order.
    features: FeatureSet

    def expand(self, transactions: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[Featured]:
        """One step; blocks of which nothing is left go no further."""
        return transactions | beam.FlatMap(_with_features, self.features).with_output_types(
            Featured
        )


def _with_features(transactions: pa.RecordBatch, features: FeatureSet) -> Iterator[Featured]:
    if len(transactions):
        yield transactions, feature_matrix(transactions, features)


@dataclass
class FeatureTable(beam.PTransform):
    """Transactions to their ids and features, as columns (`features.table`)."""

    #: Which features, in which order.
    features: FeatureSet

    def expand(
        self, transactions: beam.PCollection[pa.RecordBatch]
    ) -> beam.PCollection[pa.RecordBatch]:
        """One step."""
        return transactions | beam.FlatMap(_table, self.features).with_output_types(pa.RecordBatch)


def _table(transactions: pa.RecordBatch, features: FeatureSet) -> Iterator[pa.RecordBatch]:
    if len(transactions):
        count(ROWS_OUT, len(transactions))
        yield feature_table(transactions, features)
