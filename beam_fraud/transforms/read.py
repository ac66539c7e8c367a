"""Files to raw batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.monitoring.run_progress import ProgressWriter
from beam_fraud.records.read import read_transactions
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.sources.segment import InputFile, Segment
from beam_fraud.sources.source import read_segment, split_file
from beam_fraud.transforms.counters import HISTORY_ROWS, HISTORY_ROWS_LEFT_OUT, ROWS_IN, count


@dataclass
class SplitFiles(beam.PTransform):
    """Files to the segments that workers read; nothing after it is fused with it."""

    #: Files, the largest first, so that workers get about equal shares.
    files: Sequence[InputFile]
    #: Bytes of a segment, or None for a segment a file.
    bytes_each: int | None

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[Segment]:
        """Split in the graph: finding records in text means reading it."""
        return (
            root
            | "Files" >> beam.Create(list(self.files), reshuffle=False)
            | "Split" >> beam.FlatMap(split_file, self.bytes_each).with_output_types(Segment)
            | "Spread" >> beam.Reshuffle()
        )


@dataclass
class ReadSegments(beam.PTransform):
    """Segments to raw batches (`sources.raw`)."""

    #: What the files hold.
    schema: Schema
    #: What is made of labels.
    labels: Labels
    #: Rows of a batch at most.
    block_rows: int
    #: Where progress is told, or None.
    progress: str | None = None

    def expand(self, segments: beam.PCollection[Segment]) -> beam.PCollection[pa.RecordBatch]:
        """One step."""
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
    """Files to their transactions; what is none is counted and left out."""

    #: Files of earlier transactions.
    files: tuple[InputFile, ...]
    #: What they hold.
    schema: Schema
    #: What is made of their labels.
    labels: Labels
    #: Rows of a batch at most.
    block_rows: int

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[pa.RecordBatch]:
        """Return a file is read by one worker from start to end."""
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
    """The transactions of files, one file after the other; whoever makes use of them counts them.

    Args:
      files: of earlier transactions.
      schema: what they hold.
      labels: what is made of their labels.
      count_left_out: whether to count what is none: once, however many shards read the files.
    """
    for block in read_transactions(files, schema, labels=labels, block_rows=_BLOCK_ROWS):
        if count_left_out:
            count(HISTORY_ROWS_LEFT_OUT, len(block.dead_letters) + block.duplicates)
        yield block.transactions


def _transactions(
    file: InputFile, schema: Schema, labels: Labels, block_rows: int
) -> Iterator[pa.RecordBatch]:
    for block in read_transactions([file], schema, labels=labels, block_rows=block_rows):
        count(HISTORY_ROWS, len(block.transactions))
        count(HISTORY_ROWS_LEFT_OUT, len(block.dead_letters) + block.duplicates)
        yield block.transactions
