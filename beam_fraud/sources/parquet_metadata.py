"""Read metadata of Parquet files without Arrow; `sources.parquet_pages` gives the reason."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa

#: Maximum depth; headers nest three deep.
_MAX_DEPTH = 16


@dataclass(frozen=True)
class ColumnChunk:
    """Location of a column's pages in a row group, by the footer."""

    #: Byte offset of the first page.
    start: int
    #: Stored bytes of the pages.
    length: int
    #: Number of values.
    values: int


@dataclass(frozen=True)
class RowGroup:
    """A row group, by the footer."""

    #: Number of rows.
    rows: int
    #: A chunk per leaf column.
    chunks: tuple[ColumnChunk, ...]

    @property
    def stored(self) -> int:
        """Bytes that its columns take."""
        return sum(chunk.length for chunk in self.chunks)


def row_groups(source: pa.NativeFile) -> tuple[RowGroup, ...]:
    """Return the row groups of an opened file; moves its position.

    Raises:
      ValueError: the footer is damaged.
    """
    source.seek(source.size() - 8)
    length = int.from_bytes(source.read(4), "little")
    source.seek(source.size() - 8 - length)
    return _row_groups(source.read(length))


# Segments of a file are read one after another, each from the footer on.
@lru_cache(maxsize=4)
def _row_groups(footer: bytes) -> tuple[RowGroup, ...]:
    try:
        fields = Compact(footer).struct(0)
    except IndexError:
        raise ValueError("the footer has no end") from None
    return tuple(_row_group(group) for group in as_list(fields.get(4)))


def _row_group(group: object) -> RowGroup:
    fields = as_struct(group)
    rows = as_integer(fields.get(3))
    if rows < 0:
        raise ValueError("a row group of a negative number of rows")
    return RowGroup(rows, tuple(_column_chunk(chunk) for chunk in as_list(fields.get(1))))


def _column_chunk(chunk: object) -> ColumnChunk:
    fields = as_struct(as_struct(chunk).get(3))
    length, values, data = (as_integer(fields.get(number)) for number in (7, 5, 9))
    dictionary = as_integer(fields.get(11, 0))
    start = min(data, dictionary) if dictionary > 0 else data
    if min(start, length, values) < 0:
        raise ValueError("a column's chunk of a negative size")
    return ColumnChunk(start, length, values)


def as_struct(value: object) -> dict[int, object]:
    """Return a value of `Compact.struct` as the fields of a struct.

    Raises:
      ValueError: it has another type.
    """
    if not isinstance(value, dict):
        raise ValueError("a field is absent or no struct")
    return value


def as_list(value: object) -> list[object]:
    """Return a value of `Compact.struct` as a list.

    Raises:
      ValueError: it has another type.
    """
    if not isinstance(value, list):
        raise ValueError("a field is absent or no list")
    return value


def as_integer(value: object) -> int:
    """Return a value of `Compact.struct` as a number.

    Raises:
      ValueError: it has another type.
    """
    if not isinstance(value, int):
        raise ValueError("a field is absent or no number")
    return value


class Compact:
    """Decode numbers, lists and structs of Thrift's compact protocol."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        #: Bytes read so far.
        self.at = 0

    def struct(self, depth: int) -> dict[int, object]:
        """Return the fields of a struct by number.

        Raises:
          IndexError: the data ends before the struct.
          ValueError: it is no struct.
        """
        fields: dict[int, object] = {}
        number = 0
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._signed()
            if number in fields:
                raise ValueError("a field is there twice")
            fields[number] = self._value(head & 15, depth + 1, in_list=False)
        return fields

    def _value(self, kind: int, depth: int, *, in_list: bool) -> object:
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deeply")
        if kind in (1, 2):
            return self._byte() if in_list else kind
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._signed()
        if kind == 7:
            return self._skip(8)
        if kind == 8:
            return self._skip(self._varint())
        if kind in (9, 10):
            return self._items(depth)
        if kind == 12:
            return self.struct(depth)
        raise ValueError(f"type {kind} is unknown")

    def _items(self, depth: int) -> list[object]:
        head = self._byte()
        count = head >> 4 if head >> 4 != 15 else self._varint()
        return [self._value(head & 15, depth + 1, in_list=True) for _ in range(count)]

    def _byte(self) -> int:
        value = self._data[self.at]
        self.at += 1
        return value

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number has no end")

    def _signed(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _skip(self, size: int) -> object:
        self.at += size
        if self.at > len(self._data):
            raise IndexError
        return None
