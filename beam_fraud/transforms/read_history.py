"""Files of earlier transactions, which are not scored but fill the windows of those that are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.records.read import read_transactions
from beam_fraud.schema import Labels, Schema
from beam_fraud.sources.segment import InputFile
from beam_fraud.transforms.counters import HISTORY_ROWS, HISTORY_ROWS_LEFT_OUT, count

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
        """A file is read by one worker from start to end."""
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
    files: Sequence[InputFile], schema: Schema, labels: Labels, *, counted: bool = True
) -> Iterator[pa.RecordBatch]:
    """The transactions of files, one file after the other.

    Args:
      files: of earlier transactions.
      schema: what they hold.
      labels: what is made of their labels.
      counted: whether to count as `ReadHistory` does; one of several readers should.
    """
    for file in files:
        yield from _transactions(file, schema, labels, _BLOCK_ROWS, counted=counted)


def _transactions(
    file: InputFile, schema: Schema, labels: Labels, block_rows: int, *, counted: bool = True
) -> Iterator[pa.RecordBatch]:
    for block in read_transactions([file], schema, labels=labels, block_rows=block_rows):
        if counted:
            count(HISTORY_ROWS, len(block.transactions))
            count(HISTORY_ROWS_LEFT_OUT, len(block.dead_letters) + block.duplicates)
        yield block.transactions
