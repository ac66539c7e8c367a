"""Transactions to ordered ones: each row says where it stood in all the files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.shuffle.order import ORDER, file_of, order_of
from beam_fraud.sources.raw import POSITION, origin_of


@dataclass
class Order(beam.PTransform):
    """Adds `shuffle.order.ORDER` to transactions, in the place of their positions."""

    #: Names of the files in their order.
    names: Sequence[str]
    #: Number of the first of them.
    first: int = 0

    def expand(
        self, transactions: beam.PCollection[pa.RecordBatch]
    ) -> beam.PCollection[pa.RecordBatch]:
        """One step."""
        numbers = {name: number for number, name in enumerate(self.names, self.first)}
        return transactions | beam.Map(_ordered, numbers).with_output_types(pa.RecordBatch)


@dataclass
class FromFile(beam.PTransform):
    """Leaves out ordered transactions of earlier files, and the order."""

    #: Number of the first file whose rows stay.
    first: int

    def expand(
        self, transactions: beam.PCollection[pa.RecordBatch]
    ) -> beam.PCollection[pa.RecordBatch]:
        """One step."""
        return transactions | beam.FlatMap(_from_file, self.first).with_output_types(pa.RecordBatch)


def _ordered(batch: pa.RecordBatch, numbers: dict[str, int]) -> pa.RecordBatch:
    order = order_of(numbers[origin_of(batch).source], batch.column(POSITION))
    batch = batch.drop_columns([POSITION]).replace_schema_metadata(None)
    return batch.append_column(ORDER, order)


def _from_file(batch: pa.RecordBatch, first: int) -> Iterator[pa.RecordBatch]:
    kept = file_of(batch.column(ORDER)) >= first
    if kept.any():
        batch = batch.drop_columns([ORDER])
        yield batch if kept.all() else batch.filter(pa.array(kept))
