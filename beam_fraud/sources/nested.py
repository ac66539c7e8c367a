"""Values in structs, lists and maps by their paths, as in `card.number` or `items[0].id`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

Steps: TypeAlias = tuple[str | int, ...]
#: A name between dots, or an index in brackets.
_STEP = re.compile(r"([^.\[\]]+)|\[([0-9]+)\]")
_PATH = re.compile(r"[^.\[\]]+(?:\.[^.\[\]]+|\[[0-9]+\])+")
#: Maximum of names listed, and of structs within structs.
_LISTED, _DEPTH = 1_000, 8


def steps_of(name: str) -> Steps | None:
    """Return the names and indices of a path; None for a name that is no path.

    Example:
      >>> steps_of("items[0].id"), steps_of("amount")
      (('items', 0, 'id'), None)
    """
    if not _PATH.fullmatch(name):
        return None
    return tuple(part or int(index) for part, index in _STEP.findall(name))


def with_nested(arrow: pa.Schema, columns: Iterable[str]) -> pa.Schema:
    """Return `arrow` with a field for each of `columns` that is a path to a value in it."""
    for column in columns:
        if column not in arrow.names and (type := _type_of(arrow, column)) is not None:
            arrow = arrow.append(pa.field(column, type))
    return arrow


def _type_of(arrow: pa.Schema, column: str) -> pa.DataType | None:
    steps = steps_of(column)
    if steps is None or arrow.names.count(steps[0]) != 1:
        return None
    type = arrow.field(steps[0]).type
    for step in steps[1:]:
        type = _inner(type, step)
        if type is None:
            return None
    return type


def _inner(type: pa.DataType, step: str | int) -> pa.DataType | None:
    if pat.is_null(type):
        return type
    if isinstance(step, int):
        return type.value_type if _is_list(type) else None
    if pat.is_struct(type):
        at = type.get_field_index(step)
        return type.field(at).type if at >= 0 else None
    return type.item_type if pat.is_map(type) and _is_name(type.key_type) else None


def _is_list(type: pa.DataType) -> bool:
    return bool(pat.is_list(type) or pat.is_large_list(type) or pat.is_fixed_size_list(type))


def _is_name(type: pa.DataType) -> bool:
    return bool(pat.is_string(type) or pat.is_large_string(type))


def stored_name(arrow: pa.Schema, column: str) -> str:
    """Return the part of a path that a file's reader selects: names up to a list or a map."""
    steps = steps_of(column)
    if column in arrow.names or steps is None:
        return column
    names = [str(steps[0])]
    type = arrow.field(steps[0]).type
    for step in steps[1:]:
        if not pat.is_struct(type):
            break
        names.append(str(step))
        type = type.field(step).type
    return ".".join(names)


def names_within(arrow: pa.Schema) -> list[str]:
    """Return the names of columns, and of the values in structs by their paths."""

    def leaves(name: str, type: pa.DataType, depth: int) -> Iterator[str]:
        if pat.is_struct(type) and depth < _DEPTH:
            for field in type:
                yield from leaves(f"{name}.{field.name}", field.type, depth + 1)
        else:
            yield name

    names: list[str] = []
    for field in arrow:
        names += leaves(field.name, field.type, 0)
        if len(names) > _LISTED:
            break
    return names


def column_of(batch: pa.RecordBatch, column: str) -> pa.Array:
    """Return a column by its name or path.

    Args:
      batch: n rows, with a column that `with_nested` found.
      column: its name, or the path to a value in it.

    Returns:
      any[n]: null where a struct is null, a list too short or a map lacks the name.
    """
    steps = steps_of(column)
    if column in batch.schema.names or steps is None:
        return batch.column(column)
    return _value_at(batch.column(steps[0]), steps[1:])


def _value_at(values: pa.Array, steps: Sequence[str | int]) -> pa.Array:
    for step in steps:
        if pat.is_null(values.type):
            return values
        if isinstance(step, int):
            values = _item(values, step)
        elif pat.is_map(values.type):
            values = pc.map_lookup(values, pa.scalar(step, values.type.key_type), "first")
        else:
            values = pc.struct_field(values, [values.type.get_field_index(step)])
    return values


def _item(lists: pa.Array, index: int) -> pa.Array:
    """Return an item of each list; null for shorter lists."""
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    if pat.is_fixed_size_list(lists.type):
        starts = (np.arange(len(lists)) + lists.offset) * lists.type.list_size
    else:
        starts = lists.offsets.to_numpy()[:-1]
    return lists.values.take(pa.array(starts + index, mask=lengths <= index))
