"""Segments of a file, each read by one worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from beam_fraud.sources.file_format import FileFormat
from beam_fraud.storage.urls import Place

#: Column of times to the forms that its file is read by (`records.time_settlement`).
TimeForms: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]

#: Names and values of columns that are in a file's path; None where the value is absent.
Partitions: TypeAlias = tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class CsvLayout:
    """The layout of a CSV file."""

    #: Column names in order.
    columns: tuple[str, ...]
    #: The delimiter.
    delimiter: str
    #: Byte offset of the first record, after decompression.
    data_start: int
    #: The character around fields that hold others; empty for none.
    quote: str = '"'
    #: Lines before the first record.
    header_lines: int = 1


@dataclass(frozen=True)
class InputFile:
    """A checked input file."""

    place: Place
    #: Path relative to the user's path.
    name: str
    #: Size in bytes, as stored.
    size: int
    #: Format and compression.
    format: FileFormat
    #: Only for CSV: the layout.
    csv: CsvLayout | None = None
    #: Number of rows, if known without reading (formats of columns).
    rows: int | None = None
    #: Names of its columns; None if not known without reading (JSON).
    columns: frozenset[str] | None = None
    #: Forms of its times, where the schema's list needs the file to settle them.
    forms: TimeForms = ()
    #: Columns that its path or its table says.
    partitions: Partitions = ()
    #: Whether it is of a table.
    of_table: bool = False
    #: Of a file of a table: a bit for each row, set where the table has deleted it.
    deleted: bytes = b""
    #: Of a file of a table: names of columns in the file to those in the table.
    renamed: tuple[tuple[str, str], ...] = ()

    @property
    def path(self) -> str:
        """Absolute path or URL."""
        return self.place.name


@dataclass(frozen=True)
class Segment:
    """A range of `file`: its parts (row groups, stripes) if it has columns, bytes if it is text."""

    #: The file.
    file: InputFile
    #: First part or byte.
    start: int = 0
    #: Part or byte after the last; None for the end.
    stop: int | None = None
    #: Number of the first row in its file, from 0.
    first_row: int = 0
    #: Maximum of rows to read.
    row_limit: int | None = None
    #: Only for text: lines before the first record, header included.
    first_line: int = 0

    @property
    def whole(self) -> bool:
        """Return whether the segment is the whole file, so that its reader sees every row."""
        begin = self.file.csv.data_start if self.file.csv else 0
        return self.start in (0, begin) and self.stop is None
