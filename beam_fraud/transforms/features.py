"""Compute the feature blocks of a model from transactions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa

from beam_fraud.features.matrix import FeatureSet, feature_matrix, feature_table, table_schema
from beam_fraud.monitoring.counters import PROMOTIONS_REFUSED, ROWS_OUT
from beam_fraud.monitoring.recorder import note_awaited_everywhere
from beam_fraud.schema.schema import Schema
from beam_fraud.schema.toml import load_schema
from beam_fraud.storage.urls import Place
from beam_fraud.transforms.counters import count
from beam_fraud.transforms.deciders import Deciders
from beam_fraud.transforms.parse import ParseRecords
from beam_fraud.transforms.records import Output, Record, check_output, dead_letters_as, table_as
from beam_fraud.transforms.velocity import VelocityOfRecords

#: Transactions and their features, float64[n, features].
Featured = tuple[pa.RecordBatch, np.ndarray]


@dataclass
class Features(beam.PTransform):
    """Convert transactions to pairs of transactions and features (`features.matrix`).

    The features are those of what decides when a bundle starts, or with the first block that has
    its windows; the transactions carry on its ids.
    """

    #: What decides.
    deciders: Deciders

    def expand(self, transactions: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[Featured]:
        """Drop empty blocks."""
        return transactions | beam.ParDo(_Features(self.deciders)).with_output_types(Featured)


class _Features(beam.DoFn):
    def __init__(self, deciders: Deciders) -> None:
        self._deciders = deciders

    def setup(self) -> None:
        self._in_force = self._deciders.in_force()

    def start_bundle(self) -> None:
        self._in_force.renew()
        count(PROMOTIONS_REFUSED, self._in_force.refusals())
        note_awaited_everywhere(self._in_force.awaited)

    def process(self, transactions: pa.RecordBatch) -> Iterator[Featured]:
        if len(transactions):
            opened, transactions = self._in_force.choose(transactions)
            block = feature_matrix(transactions, opened.decider.features)
            yield self._in_force.marked(transactions, opened), block


@dataclass
class FeatureTable(beam.PTransform):
    """Convert transactions to ids and features, as columns (`features.table`)."""

    #: The features in order.
    features: FeatureSet

    def expand(
        self, transactions: beam.PCollection[pa.RecordBatch]
    ) -> beam.PCollection[pa.RecordBatch]:
        """Compute the table of features."""
        return transactions | beam.FlatMap(_table, self.features).with_output_types(pa.RecordBatch)


def _table(transactions: pa.RecordBatch, features: FeatureSet) -> Iterator[pa.RecordBatch]:
    if len(transactions):
        count(ROWS_OUT, len(transactions))
        yield feature_table(transactions, features)


class Computed(NamedTuple):
    """Outputs of `ComputeFeatures`; every record is in one of the two."""

    #: Rows of `transaction_id` and a column per feature.
    features: beam.PCollection[Any]
    #: Rows of `stages.DEAD_LETTER`.
    dead_letters: beam.PCollection[Any]


@dataclass
class ComputeFeatures(beam.PTransform):
    """Compute the features of any pipeline's records, as `beam-fraud features` does.

    Accepts the records of `ParseTransactions`. Velocity features need all rows of a key, so a
    bounded collection in the global window.
    """

    #: A schema, the name of a preset or a TOML file.
    schema: Schema | str | Path
    #: Paths, directories or globs of earlier transactions, which fill windows.
    history: Sequence[str | Path] = ()
    #: Form of both outputs: `rows` or `batches`.
    output: Output = "rows"

    def expand(self, records: beam.PCollection[Record]) -> Computed:
        """Parse, add velocity features, compute."""
        check_output(self.output)
        schema = self.schema if isinstance(self.schema, Schema) else load_schema(self.schema)
        features = FeatureSet(schema.with_ids())
        parsed = records | ParseRecords(features.schema, features.labels)
        history = tuple(map(Place.of, self.history))
        table = (
            parsed.transactions
            | "Velocity" >> VelocityOfRecords(features, history, features.labels)
            | "Features" >> FeatureTable(features)
        )
        return Computed(
            table | "Table" >> table_as(self.output, table_schema(features)),
            parsed.dead_letters | "DeadLetters" >> dead_letters_as(self.output),
        )
