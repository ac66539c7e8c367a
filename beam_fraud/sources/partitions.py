"""Partition keys of directories, as in `day=2024-02-08/part.parquet`, as columns."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.types as pat

from beam_fraud.sources.segment import Partitions

#: Value of a directory without one, as Hive writes it.
_ABSENT = "__HIVE_DEFAULT_PARTITION__"


def partitions_of(path: str, columns: Collection[str]) -> Partitions:
    """Return the keys and values in the directories of a path, those of `columns` alone.

    Example:
      >>> partitions_of("days/day=2024-02-08/country=C%C3%B4te/a.parquet", ("country", "shop"))
      (('country', 'Côte'),)
    """
    return tuple(one for one in all_partitions(path) if one[0] in columns)


def all_partitions(path: str) -> Partitions:
    """Return every key and value in the directories of a path."""
    found: dict[str, str | None] = {}
    for directory in path.split("/")[:-1]:
        key, equals, value = directory.partition("=")
        if equals:
            found[unquote(key)] = None if value == _ABSENT else unquote(value)
    return tuple(found.items())


def partition_fields(partitions: Partitions) -> pa.Schema:
    """Return the columns that partitions are read as."""
    return pa.schema([pa.field(name, pa.string()) for name, _ in partitions])


def with_partitions(
    columns: dict[str, pa.Array], partitions: Partitions, rows: int
) -> dict[str, pa.Array]:
    """Return columns with those of partitions; a column that is there stays."""
    absent = {
        name: pa.nulls(rows, pa.string()) if value is None else pa.repeat(pa.scalar(value), rows)
        for name, value in partitions
        if name not in columns
    }
    return columns | absent


def filled(columns: dict[str, pa.Array], partitions: Partitions) -> dict[str, pa.Array]:
    """Return columns of JSON, absent values replaced by those of partitions."""
    changed = {
        name: _filled(columns[name], value)
        for name, value in partitions
        if name in columns and value is not None and columns[name].null_count
    }
    return columns | changed


def _filled(column: pa.Array, value: str) -> pa.Array:
    if pat.is_null(column.type):
        return pa.repeat(pa.scalar(value), len(column))
    if pat.is_floating(column.type):
        try:
            return column.fill_null(pa.array([value]).cast(column.type)[0])
        except pa.ArrowInvalid:
            column = column.cast(pa.string())
    return column.fill_null(pa.scalar(value.encode()).cast(column.type))
