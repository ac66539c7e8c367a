"""Read files and tables to transactions without a runner, for training and evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from beam_fraud.errors import Code, FraudError
from beam_fraud.records.doubts import Doubt, other_form
from beam_fraud.records.duplicates import SeenIds
from beam_fraud.records.parse import parse
from beam_fraud.records.validate import Arrived, validate_arrivals
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.sources.segment import InputFile
from beam_fraud.sources.source import read_segment, split_file
from beam_fraud.sources.table import InputTable, read_table


@dataclass(frozen=True)
class ReadBlock:
    """The rows of a block by outcome; each is in one of the four."""

    #: Valid rows with new ids: `Schema.transactions` and `@position`.
    transactions: pa.RecordBatch
    #: Invalid rows: `stages.DEAD_LETTER`.
    dead_letters: pa.RecordBatch
    #: Number of rows that repeat an id of the file.
    duplicates: int
    #: Rows that were read by an assumption.
    doubts: Counter[Doubt] = field(default_factory=Counter)
    #: Records that are no transactions, by reason (`envelopes.SKIPPED`).
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def rows_left_out(self) -> int:
        """Number of rows that are no transaction of this block."""
        return len(self.dead_letters) + self.duplicates + self.skipped.total()


def read_transactions(
    files: Sequence[InputFile | InputTable],
    schema: Schema,
    *,
    labels: Labels,
    block_rows: int = 50_000,
) -> Iterator[ReadBlock]:
    """Read, parse, validate and deduplicate files and tables in order.

    Raises:
      FraudError: a file cannot be read, or mixes formats of times that only a whole file settles.
    """
    for file in files:
        seen = SeenIds() if schema.role("transaction_id") else None
        for raw in _raw_batches(file, schema, labels, block_rows):
            parsed = parse(raw, schema, labels=labels)
            checked = validate_arrivals(parsed, schema, labels=labels, ahead=None, now=None)
            if rows := checked.doubts.get(Doubt.FORM):
                raise FraudError(
                    f"{file.name}: {rows:,} {other_form(schema.roles['event_time'])}",
                    Code.TIMES_AMBIGUOUS,
                )
            yield _without_repeated(checked, seen)


def _raw_batches(
    file: InputFile | InputTable, schema: Schema, labels: Labels, block_rows: int
) -> Iterator[pa.RecordBatch]:
    if isinstance(file, InputTable):
        yield from read_table(file, block_rows)
        return
    for segment in split_file(file, None):
        yield from read_segment(segment, schema, block_rows, labels=labels)


def _without_repeated(checked: Arrived, seen: SeenIds | None) -> ReadBlock:
    block = ReadBlock(checked.transactions, checked.dead, 0, checked.doubts, checked.skipped)
    if seen is None or not len(block.transactions):
        return block
    first = seen.first_time(block.transactions.column("transaction_id"))
    if first.all():
        return block
    kept = block.transactions.filter(pa.array(first))
    return replace(block, transactions=kept, duplicates=int((~first).sum()))
