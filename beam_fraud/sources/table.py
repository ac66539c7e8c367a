"""Arrow tables in memory as sources."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.sources.columns import check_columns
from beam_fraud.sources.parquet import checked
from beam_fraud.sources.raw import POSITION, Origin, with_origin


@dataclass(frozen=True)
class InputTable:
    """A checked table."""

    #: Name, the prefix of derived ids and the source of dead letters.
    name: str
    #: The rows, with just the columns that the schema reads.
    rows: pa.Table


def check_table(name: str, rows: pa.Table, schema: Schema, *, labels: Labels) -> InputTable:
    """Check the columns of a table.

    Args:
      name: name of the table.
      rows: n rows, with the schema's columns and any others.
      schema: the schema.
      labels: whether labels are read as well.

    Raises:
      FraudError: a column is missing, repeated or of the wrong type.
    """
    check_columns(name, rows.schema, schema, labels=labels)
    there = set(rows.schema.names)
    columns = [column for column in schema.columns(labels=labels) if column in there]
    return InputTable(name, rows.select(columns))


def read_table(table: InputTable, block_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield raw batches (`sources.raw`) of `block_rows` rows, the last smaller."""
    for block, start in enumerate(range(0, len(table.rows), block_rows)):
        rows = table.rows.slice(start, block_rows).combine_chunks()
        [batch] = rows.to_batches()
        columns = zip(batch.schema.names, map(checked, batch.columns), strict=True)
        yield raw_batch(dict(columns), table.name, start, block)


def raw_batch(
    columns: dict[str, pa.Array], source: str, first: int = 0, block: int = 0
) -> pa.RecordBatch:
    """Return a raw batch (`sources.raw`) of columns in memory.

    Args:
      columns: names to values of the n rows.
      source: name of the source.
      first: position of the first row in it.
      block: number of the batch in it.
    """
    rows = len(next(iter(columns.values())))
    positions = pa.array(np.arange(first, first + rows, dtype=np.int64))
    named = {POSITION: positions, **columns}
    described = pa.schema([pa.field(name, column.type) for name, column in named.items()])
    origin = Origin(source, "parquet", block)
    return pa.RecordBatch.from_arrays(list(named.values()), schema=with_origin(described, origin))
