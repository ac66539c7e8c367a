"""Bound the decompressed size of a Parquet file before decompression: 50 KB may claim 39 GB.

A page states its decompressed size, and a dictionary may hold a long value that many rows refer to.
This module reads footer and page headers itself: damaged chunk metadata crash the process inside
Arrow, and a footer may claim anything about a page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pat

from beam_fraud.sources.columnar import BATCH_BYTES
from beam_fraud.sources.lines import MAX_RECORD_BYTES
from beam_fraud.sources.parquet_metadata import (
    ColumnChunk,
    Compact,
    RowGroup,
    as_integer,
    as_struct,
    row_groups,
)

#: Maximum decompressed bytes of the pages of all columns read at once, whatever the file's size.
MAX_UNFOLDED_BYTES = 512 << 20
#: Maximum ratio to the file's size for large files.
_UNFOLDED_TIMES = 32
#: Bytes of a page header: first read, and maximum.
_HEADER_BYTES, _MAX_HEADER_BYTES = 256, 16 << 20

_DICTIONARY_PAGE = 2
_DELTA_BINARY_PACKED, _DELTA_LENGTH_BYTE_ARRAY, _DELTA_BYTE_ARRAY = 5, 6, 7
_DELTAS = (_DELTA_BINARY_PACKED, _DELTA_LENGTH_BYTE_ARRAY, _DELTA_BYTE_ARRAY)


@dataclass
class _Pages:
    """Decompressed sizes of a column's pages in a row group."""

    #: Bytes of the dictionary.
    dictionary: int = 0
    #: Bytes of the largest other page, plus the lengths that a delta encoding decodes at once.
    page: int = 0
    #: Maximum bytes of a value that refers to the previous one.
    referring: int = 0


def most_unfolded(size: int) -> int:
    """Return the maximum bytes that repeated values of a file of `size` bytes may decode to."""
    return max(MAX_UNFOLDED_BYTES, _UNFOLDED_TIMES * size)


@dataclass
class Sound:
    """Readable row groups."""

    #: Number of readable row groups, from the first.
    groups: int
    #: Rows per read.
    rows: int
    #: Damage of the next one; None if all are sound.
    fault: str | None = None


def sound_groups(
    file: pq.ParquetFile,
    source: pa.NativeFile,
    groups: Sequence[int],
    columns: Sequence[str],
    block_rows: int,
) -> Sound:
    """Return which row groups are readable within a memory limit, and the rows per read.

    Args:
      file: opened from `source`.
      source: a local file; its position is moved.
      groups: the row groups to read.
      columns: the top-level columns to read.
      block_rows: requested rows per read.
    """
    leaves = [file.schema.column(place) for place in range(len(file.schema))]
    # Parquet takes `a` for the folder of a column `a.b` and reads that as well.
    below = tuple(f"{column}." for column in columns)
    selected = [
        (place, leaf)
        for place, leaf in enumerate(leaves)
        if leaf.path in columns or leaf.path.startswith(below)
    ]
    described = row_groups(source)
    sound = Sound(0, block_rows)
    for group in groups:
        try:
            if len(described[group].chunks) != len(leaves):
                raise ValueError("it has another number of columns than the schema")
            longest = _longest_row(file, source, group, described[group], selected, block_rows)
        except Exception as error:
            sound.fault = f"row group {group}: {error}"
            break
        if longest:
            sound.rows = max(1, min(sound.rows, BATCH_BYTES // longest))
        sound.groups += 1
    return sound


def _longest_row(
    file: pq.ParquetFile,
    source: pa.NativeFile,
    group: int,
    described: RowGroup,
    leaves: Sequence[tuple[int, pq.ColumnSchema]],
    block_rows: int,
) -> int:
    """Return the maximum bytes of a row's referring values; 0 if certainly harmless.

    Raises:
      ValueError: a page is damaged, or values decode to more than memory allows.
    """
    most = most_unfolded(source.size())
    unfolded = longest = 0
    for place, leaf in leaves:
        pages = _walk(source, described.chunks[place])
        unfolded += pages.dictionary + pages.page
        if unfolded > most:
            raise ValueError(
                f"its pages unfold to over {most >> 20} MB at once, too much for a file of "
                f"{source.size():,} bytes"
            )
        longest += pages.referring + max(0, leaf.length)
        values = described.chunks[place].values
        if pages.dictionary * min(block_rows, values) > BATCH_BYTES:
            # A row of a list has several values.
            each = -(-values // max(described.rows, 1))
            longest += each * _longest(file, source, group, values, leaf)
    return longest


def _longest(
    file: pq.ParquetFile, source: pa.NativeFile, group: int, values: int, leaf: pq.ColumnSchema
) -> int:
    """Return the bytes of the longest value in a dictionary.

    Raises:
      ValueError: it is too long, or values refer to it so often that they decode to too much.
    """
    if leaf.physical_type != "BYTE_ARRAY":
        return 0
    coded = pq.ParquetFile(source, metadata=file.metadata, read_dictionary=[leaf.path])

    def columns(at_once: int) -> Iterator[pa.DictionaryArray]:
        for batch in coded.iter_batches(at_once, row_groups=[group], columns=[leaf.path]):
            for column in batch.columns:
                while pat.is_nested(column.type):
                    column = column.field(0) if pat.is_struct(column.type) else column.values
                if pat.is_dictionary(column.type):
                    yield column

    most = most_unfolded(source.size())
    longest = max((int(_lengths(c).max(initial=0)) for c in islice(columns(1), 1)), default=0)
    if longest > MAX_RECORD_BYTES:
        raise ValueError(f"column {leaf.path!r} has a value of {longest:,} bytes")
    if longest * values > most:
        # A long value is harmless if few values refer to it.
        unfolded = 0
        for column in columns(1 << 16):
            unfolded += int(_lengths(column)[column.indices.drop_null().to_numpy()].sum())
            if unfolded > most:
                raise ValueError(
                    f"column {leaf.path!r} unfolds to over {most >> 20} MB, too much for a file "
                    f"of {source.size():,} bytes"
                )
    return longest


def _lengths(column: pa.DictionaryArray) -> npt.NDArray[np.int64]:
    """Return the bytes of each value of a dictionary."""
    lengths = pc.binary_length(column.dictionary.cast(pa.binary())).fill_null(0)
    return np.asarray(lengths.to_numpy(zero_copy_only=False), dtype=np.int64)


def _walk(source: pa.NativeFile, chunk: ColumnChunk) -> _Pages:
    """Add up a chunk's pages by their headers."""
    start, end, left = chunk.start, chunk.start + chunk.length, chunk.values
    if end > source.size():
        raise ValueError("a column lies outside of the file")
    pages = _Pages()
    while start < end and left > 0:
        header = _page_header(source, start, end - start)
        if header.type == _DICTIONARY_PAGE:
            # Arrow makes room for as many values as the header says.
            if header.values > header.unfolded:
                raise ValueError("a dictionary has more values than bytes")
            pages.dictionary = max(pages.dictionary, header.unfolded)
        else:
            left -= header.values
            lengths = 8 * header.values if header.encoding in _DELTAS else 0
            pages.page = max(pages.page, header.unfolded + lengths)
            if header.encoding == _DELTA_BYTE_ARRAY:
                pages.referring = max(pages.referring, header.unfolded)
        start += header.length + header.stored
    return pages


@dataclass
class _PageHeader:
    """Header of a page: bytes of the header and of the data, stored and decompressed."""

    length: int
    type: int
    unfolded: int
    stored: int
    values: int
    encoding: int


def _page_header(source: pa.NativeFile, start: int, length: int) -> _PageHeader:
    """Read the header at `start`, of `length` bytes at most.

    Raises:
      ValueError: there is no valid header.
    """
    size = min(_HEADER_BYTES, length)
    while True:
        source.seek(start)
        thrift = Compact(source.read(size))
        try:
            fields = thrift.struct(0)
        except IndexError:
            if size >= min(length, _MAX_HEADER_BYTES):
                raise ValueError("a page's header has no end") from None
            size = min(16 * size, length, _MAX_HEADER_BYTES)
            continue
        page = as_struct(fields.get(5, fields.get(8, fields.get(7, {}))))
        header = _PageHeader(
            thrift.at,
            as_integer(fields.get(1)),
            as_integer(fields.get(2)),
            as_integer(fields.get(3)),
            as_integer(page.get(1, 0)),
            as_integer(page.get(2 if 5 in fields else 4, 0)),
        )
        if min(header.unfolded, header.stored, header.values) < 0:
            raise ValueError("a page of a negative size")
        return header
