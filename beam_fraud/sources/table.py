"""Arrow tables in memory as sources."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.sources.columnar import columns_read, selected
from beam_fraud.sources.columns import check_columns
from beam_fraud.sources.nested import steps_of
from beam_fraud.sources.raw import POSITION, Origin, with_origin
from beam_fraud.sources.segment import TimeForms


@dataclass(frozen=True)
class InputTable:
    """A checked table."""

    #: Name, the prefix of derived ids and the source of dead letters.
    name: str
    #: The rows, with just the columns that the schema reads anything of.
    rows: pa.Table
    #: Names of the columns that the schema reads, and paths to values in them.
    columns: tuple[str, ...]
    #: Forms of its times, where the schema's list needs the table to settle them.
    forms: TimeForms = ()


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
    columns = tuple(columns_read(rows.schema, schema, labels=labels))
    there = [name for name in rows.schema.names if name in {*columns, *map(_root, columns)}]
    return InputTable(name, rows.select(there), columns)


def _root(column: str) -> str | int:
    return (steps_of(column) or (column,))[0]


def read_table(table: InputTable, block_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield raw batches (`sources.raw`) of `block_rows` rows, the last smaller."""
    for block, start in enumerate(range(0, len(table.rows), block_rows)):
        rows = table.rows.slice(start, block_rows).combine_chunks()
        [batch] = rows.to_batches()
        batch = selected(batch, table.columns)
        columns = zip(batch.schema.names, batch.columns, strict=True)
        yield raw_batch(dict(columns), table.name, start, block, table.forms)


def raw_batch(
    columns: dict[str, pa.Array],
    source: str,
    first: int = 0,
    block: int = 0,
    forms: TimeForms = (),
) -> pa.RecordBatch:
    """Return a raw batch (`sources.raw`) of columns in memory.

    Args:
      columns: names to values of the n rows.
      source: name of the source.
      first: position of the first row in it.
      block: number of the batch in it.
      forms: forms of its times, settled.
    """
    rows = len(next(iter(columns.values())))
    positions = pa.array(np.arange(first, first + rows, dtype=np.int64))
    named = {POSITION: positions, **columns}
    described = pa.schema([pa.field(name, column.type) for name, column in named.items()])
    origin = Origin(source, "parquet", block, forms=forms)
    return pa.RecordBatch.from_arrays(list(named.values()), schema=with_origin(described, origin))
