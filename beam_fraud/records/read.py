"""Files and tables to transactions without a runner, as training and evaluating read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from beam_fraud.records.duplicates import SeenIds
from beam_fraud.records.parse import parse
from beam_fraud.records.validate import validate
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.sources.segment import InputFile
from beam_fraud.sources.source import read_segment, split_file
from beam_fraud.sources.table import InputTable, read_table


@dataclass(frozen=True)
class ReadBlock:
    """What became of the rows of a block: each is in one of the three."""

    #: Valid rows seen for the first time: `Schema.transactions` and `@position`.
    transactions: pa.RecordBatch
    #: Rows that are none: `stages.DEAD_LETTER`.
    dead_letters: pa.RecordBatch
    #: Number of rows whose id an earlier row of the file has.
    duplicates: int


def read_transactions(
    files: Sequence[InputFile | InputTable],
    schema: Schema,
    *,
    labels: Labels,
    block_rows: int = 50_000,
) -> Iterator[ReadBlock]:
    """Read, parse, validate and deduplicate files and tables one after the other.

    Raises:
      FraudError: a file cannot be read.
    """
    for file in files:
        seen = SeenIds() if schema.role("transaction_id") else None
        for raw in _raw_batches(file, schema, labels, block_rows):
            parsed = parse(raw, schema, labels=labels)
            transactions, dead = validate(parsed, schema, labels=labels)
            yield _without_repeated(transactions, dead, seen)


def _raw_batches(
    file: InputFile | InputTable, schema: Schema, labels: Labels, block_rows: int
) -> Iterator[pa.RecordBatch]:
    if isinstance(file, InputTable):
        yield from read_table(file, block_rows)
        return
    for segment in split_file(file, None):
        yield from read_segment(segment, schema, block_rows, labels=labels)


def _without_repeated(
    transactions: pa.RecordBatch, dead: pa.RecordBatch, seen: SeenIds | None
) -> ReadBlock:
    if seen is None or not len(transactions):
        return ReadBlock(transactions, dead, 0)
    first = seen.first_time(transactions.column("transaction_id"))
    if first.all():
        return ReadBlock(transactions, dead, 0)
    return ReadBlock(transactions.filter(pa.array(first)), dead, int((~first).sum()))
