"""Number transactions by their place in all files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.monitoring.run_progress import ProgressWriter
from beam_fraud.sources.raw import POSITION, origin_of
from beam_fraud.transforms.counters import EARLIEST_ROW, note_earliest
from beam_fraud.transforms.shuffle.order import ORDER, file_of, order_of


@dataclass
class Order(beam.PTransform):
    """Replace the positions of transactions by `shuffle.order.ORDER`."""

    #: Names of the files in their order.
    names: Sequence[str]
    #: Number of the first file.
    first: int = 0
    #: Name of the counter of their earliest event time.
    earliest: str = EARLIEST_ROW

    def expand(
        self, transactions: beam.PCollection[pa.RecordBatch]
    ) -> beam.PCollection[pa.RecordBatch]:
        """One step."""
        numbers = {name: number for number, name in enumerate(self.names, self.first)}
        return transactions | beam.Map(_ordered, numbers, self.earliest).with_output_types(
            pa.RecordBatch
        )


@dataclass
class FromFile(beam.PTransform):
    """Drop transactions of earlier files, and the order column."""

    #: Number of the first file to keep.
    first: int
    #: Directory of progress files, or None.
    progress: str | None = None

    def expand(
        self, transactions: beam.PCollection[pa.RecordBatch]
    ) -> beam.PCollection[pa.RecordBatch]:
        """One step."""
        step = beam.ParDo(_FromFile(self.first, self.progress))
        return transactions | step.with_output_types(pa.RecordBatch)


def _ordered(batch: pa.RecordBatch, numbers: dict[str, int], earliest: str) -> pa.RecordBatch:
    note_earliest(earliest, batch)
    order = order_of(numbers[origin_of(batch).source], batch.column(POSITION))
    batch = batch.drop_columns([POSITION]).replace_schema_metadata(None)
    return batch.append_column(ORDER, order)


class _FromFile(beam.DoFn):
    def __init__(self, first: int, progress: str | None) -> None:
        self._first = first
        self._directory = progress
        self._progress: ProgressWriter | None = None

    def setup(self) -> None:
        if self._directory:
            self._progress = ProgressWriter(self._directory)

    def process(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        selected = file_of(batch.column(ORDER)) >= self._first
        if selected.any():
            batch = batch.drop_columns([ORDER])
            batch = batch if selected.all() else batch.filter(pa.array(selected))
            yield batch
            if self._progress:
                self._progress.add(len(batch))
