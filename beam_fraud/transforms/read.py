"""Read files to raw batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.monitoring.counters import HISTORY_ROWS, HISTORY_ROWS_LEFT_OUT, ROWS_IN
from beam_fraud.monitoring.recorder import ProgressWriter
from beam_fraud.records.read import read_transactions
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.sources.segment import InputFile, Segment
from beam_fraud.sources.source import read_segment, split_file
from beam_fraud.transforms.counters import count


@dataclass
class SplitFiles(beam.PTransform):
    """Split files into segments for workers, and prevent fusion."""

    #: Files, the largest first, for about equal shares per worker.
    files: Sequence[InputFile]
    #: Bytes of a segment; None for one segment per file.
    bytes_each: int | None

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[Segment]:
        """Split in the graph, because finding records in text requires reading it."""
        return (
            root
            | "Files" >> beam.Create(list(self.files), reshuffle=False)
            | "Split" >> beam.FlatMap(split_file, self.bytes_each).with_output_types(Segment)
            | "Spread" >> beam.Reshuffle()
        )


@dataclass
class ReadSegments(beam.PTransform):
    """Read segments to raw batches (`sources.raw`)."""

    #: The schema of the files.
    schema: Schema
    #: Treatment of labels.
    labels: Labels
    #: Maximum of rows per batch.
    block_rows: int
    #: Directory of progress files, or None.
    progress: str | None = None

    def expand(self, segments: beam.PCollection[Segment]) -> beam.PCollection[pa.RecordBatch]:
        """Read in blocks."""
        return segments | "Blocks" >> beam.ParDo(
            _ReadBlocks(self.schema, self.labels, self.block_rows, self.progress)
        ).with_output_types(pa.RecordBatch)


class _ReadBlocks(beam.DoFn):
    def __init__(
        self, schema: Schema, labels: Labels, block_rows: int, progress: str | None
    ) -> None:
        self._schema = schema
        self._labels = labels
        self._block_rows = block_rows
        self._directory = progress
        self._progress: ProgressWriter | None = None

    def setup(self) -> None:
        if self._directory:
            self._progress = ProgressWriter(self._directory)

    def process(self, segment: Segment) -> Iterator[pa.RecordBatch]:
        for batch in read_segment(segment, self._schema, self._block_rows, labels=self._labels):
            count(ROWS_IN, len(batch))
            yield batch
            if self._progress:
                self._progress.add(len(batch))


_BLOCK_ROWS = 50_000


@dataclass
class ReadHistory(beam.PTransform):
    """Read the transactions of history files; count and drop invalid records."""

    #: Files of earlier transactions.
    files: tuple[InputFile, ...]
    #: Their schema.
    schema: Schema
    #: Treatment of their labels.
    labels: Labels
    #: Maximum of rows per batch.
    block_rows: int

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[pa.RecordBatch]:
        """Read each file by one worker from start to end."""
        return (
            root
            | "Files" >> beam.Create(list(self.files), reshuffle=False)
            | "Spread" >> beam.Reshuffle()
            | "Transactions"
            >> beam.FlatMap(
                _transactions, self.schema, self.labels, self.block_rows
            ).with_output_types(pa.RecordBatch)
        )


def earlier_transactions(
    files: Sequence[InputFile], schema: Schema, labels: Labels, *, count_left_out: bool
) -> Iterator[pa.RecordBatch]:
    """Yield the transactions of files in order, uncounted.

    Args:
      files: of earlier transactions.
      schema: their schema.
      labels: treatment of their labels.
      count_left_out: whether to count invalid records, which one of the shards that read the files
        must do.
    """
    for block in read_transactions(files, schema, labels=labels, block_rows=_BLOCK_ROWS):
        if count_left_out:
            count(HISTORY_ROWS_LEFT_OUT, block.rows_left_out)
        yield block.transactions


def _transactions(
    file: InputFile, schema: Schema, labels: Labels, block_rows: int
) -> Iterator[pa.RecordBatch]:
    for block in read_transactions([file], schema, labels=labels, block_rows=block_rows):
        count(HISTORY_ROWS, len(block.transactions))
        count(HISTORY_ROWS_LEFT_OUT, block.rows_left_out)
        yield block.transactions
