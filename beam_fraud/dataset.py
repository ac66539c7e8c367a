"""Labelled transactions of files as one table, to train and evaluate on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.errors import UsageError
from beam_fraud.records.read import read_transactions
from beam_fraud.schema import EVENT_TIME, Schema
from beam_fraud.sources.raw import POSITION
from beam_fraud.sources.source import find_inputs


@dataclass(frozen=True)
class Dataset:
    """Transactions and what was left out of them."""

    #: `Schema.transactions(labels="required")`, sorted by event time, ties as they came.
    transactions: pa.Table
    #: Rows read.
    rows_in: int
    #: Dead letters by reason.
    dead_reasons: dict[str, int]
    #: Rows whose id an earlier row of the same file has.
    rows_duplicate: int

    @property
    def rows_dead(self) -> int:
        """Number of dead letters."""
        return sum(self.dead_reasons.values())


def load_dataset(
    files: Sequence[str],
    schema: Schema,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Dataset:
    """Read the labelled transactions of files in `[since, until)`.

    Args:
      files: paths, directories or globs.
      schema: what they hold.
      since: event time from which rows are kept, aware; from the first if None.
      until: event time before which rows are kept, aware; to the last if None.

    Raises:
      UsageError: the schema has no label.
      FraudError: a file cannot be read or lacks a column.
    """
    if schema.role("label") is None:
        raise UsageError(f"schema {schema.name}: no column is given for the role 'label'")
    inputs = find_inputs(files, schema, labels="required")
    batches: list[pa.RecordBatch] = []
    rows_in, duplicates, reasons = 0, 0, Counter[str]()
    for block in read_transactions(inputs, schema, labels="required"):
        rows_in += len(block.transactions) + len(block.dead_letters) + block.duplicates
        duplicates += block.duplicates
        reasons.update(block.dead_letters.column("reason").to_pylist())
        batches.append(_between(block.transactions.drop_columns([POSITION]), since, until))
    described = schema.transactions(labels="required")
    table = pa.Table.from_batches([b.replace_schema_metadata(None) for b in batches], described)
    order = pc.sort_indices(table, [("event_time", "ascending")])
    return Dataset(table.take(order).combine_chunks(), rows_in, dict(reasons), duplicates)


def _between(
    batch: pa.RecordBatch, since: datetime | None, until: datetime | None
) -> pa.RecordBatch:
    times = batch.column("event_time")
    if since is not None:
        batch = batch.filter(pc.greater_equal(times, pa.scalar(since, EVENT_TIME)))
        times = batch.column("event_time")
    if until is not None:
        batch = batch.filter(pc.less(times, pa.scalar(until, EVENT_TIME)))
    return batch
