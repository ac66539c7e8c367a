"""Number transactions by their place in all files, the order of their velocity features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.monitoring.counters import EARLIEST_ROW
from beam_fraud.monitoring.recorder import ProgressWriter
from beam_fraud.schema.event_time import event_micros
from beam_fraud.sources.raw import POSITION, origin_of
from beam_fraud.transforms.counters import note_earliest

#: Column of the order in shuffled rows: int64.
ORDER = "@order"
#: The lower bits hold the position in a file: files have up to 10**12 rows.
_POSITION_BITS = 40


def order_of(file: int, positions: pa.Array) -> pa.Array:
    """Return the order of rows (int64[n]): by file number, then by position."""
    return pc.add(positions, pa.scalar(file << _POSITION_BITS, pa.int64()))


def file_of(order: pa.Array) -> npt.NDArray[np.int64]:
    """Return the file number of each row, int64[n]."""
    return np.asarray(order, dtype=np.int64) >> _POSITION_BITS


def in_order(rows: pa.Table) -> pa.Table:
    """Sort rows by event time, then by `ORDER`."""
    times = event_micros(rows)
    order = np.asarray(rows.column(ORDER))
    later = (times[1:] > times[:-1]) | ((times[1:] == times[:-1]) & (order[1:] > order[:-1]))
    return rows if later.all() else rows.take(pa.array(np.lexsort((order, times))))


@dataclass
class Order(beam.PTransform):
    """Replace the positions of transactions by `ORDER`."""

    #: Names of the files in their order.
    names: Sequence[str]
    #: Number of the first file.
    first: int = 0
    #: Name of the counter of their earliest event time.
    earliest: str = EARLIEST_ROW

    def expand(
        self, transactions: beam.PCollection[pa.RecordBatch]
    ) -> beam.PCollection[pa.RecordBatch]:
        """Number the rows by their file."""
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
        """Set the rows of one file in order."""
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
