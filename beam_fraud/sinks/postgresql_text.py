"""Text as PostgreSQL can hold it: hostile names must not keep other rows from being written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Column, Table, Text

#: Characters of a text that may be in an index; a row of an index has room for 2,700 bytes.
_LONGEST = 400


def storable(
    column: Column[Any], values: Sequence[object] | pa.Array
) -> Sequence[object] | pa.Array:
    """Values of a column as PostgreSQL can hold them; only texts ever change.

    NUL characters and halves of surrogate pairs become escapes: `\\x00`. Of an indexed text of more
    than 400 characters, the first ones stay and the SHA-256 of the whole takes the place of the
    rest, so that different ones stay different.
    """
    if not isinstance(column.type, Text):
        return values
    indexed = column.name in _indexed(column.table)
    if isinstance(values, pa.Array):
        return _storable_array(values, indexed)
    texts = [value for value in values if isinstance(value, str)]
    too_long = indexed and max(map(len, texts), default=0) > _LONGEST
    joined = "".join(texts)
    if too_long or "\0" in joined or not _is_utf8(joined):
        return [_changed(value, indexed) if isinstance(value, str) else value for value in values]
    return values


def _storable_array(values: pa.Array, indexed: bool) -> pa.Array:
    """Arrow's texts are UTF-8 for certain, so that bytes tell what there is to change."""
    data = values.buffers()[2]
    # Of a slice, that of others as well, which costs time at most.
    nul = data is not None and b"\0" in data.to_pybytes()
    longest = pc.max(pc.binary_length(values)).as_py() or 0
    if not nul and not (indexed and longest > _LONGEST):
        return values
    changed = [text and _changed(text, indexed) for text in values.to_pylist()]
    return pa.array(changed, pa.string())


@cache
def _indexed(table: Table) -> frozenset[str]:
    columns = [*table.primary_key.columns, *(c for index in table.indexes for c in index.columns)]
    return frozenset(column.name for column in columns)


def _changed(text: str, indexed: bool) -> str:
    text = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
    if indexed and len(text) > _LONGEST:
        digest = hashlib.sha256(text.encode()).hexdigest()
        return f"{text[: _LONGEST - len(digest) - 1]}\N{HORIZONTAL ELLIPSIS}{digest}"
    return text


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
