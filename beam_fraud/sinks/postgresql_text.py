"""Text as PostgreSQL can hold it: hostile names must not keep other rows from being written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Column, Table, Text

#: Characters of a text that may be in an index; a row of an index has room for 2,700 bytes.
_LONGEST = 400


def storable(column: Column[Any], values: Sequence[object]) -> Sequence[object]:
    """Values of a column as PostgreSQL can hold them; only texts ever change.

    NUL characters and halves of surrogate pairs become escapes: `\\x00`. Of an indexed text of more
    than 400 characters, the first ones stay and the SHA-256 of the whole takes the place of the
    rest, so that different ones stay different.
    """
    if not isinstance(column.type, Text):
        return values
    indexed = column.name in _indexed(column.table)
    texts = [value for value in values if isinstance(value, str)]
    too_long = indexed and max(map(len, texts), default=0) > _LONGEST
    joined = "".join(texts)
    if too_long or "\0" in joined or not _is_utf8(joined):
        return [_changed(value, indexed) if isinstance(value, str) else value for value in values]
    return values


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
