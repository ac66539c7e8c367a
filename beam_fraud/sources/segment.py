"""A stretch of a file that one worker reads."""

from __future__ import annotations

from dataclasses import dataclass

from beam_fraud.sources.file_format import FileFormat


@dataclass(frozen=True)
class CsvLayout:
    """What a CSV file's header says."""

    #: Column names in order.
    columns: tuple[str, ...]
    #: The character between fields.
    delimiter: str
    #: The byte (after decompression) at which the first record starts.
    data_start: int


@dataclass(frozen=True)
class InputFile:
    """A file that was found, told apart and checked."""

    #: Absolute path or URL.
    path: str
    #: Path relative to what was given.
    name: str
    #: Size in bytes, as stored.
    size: int
    #: Format and compression.
    format: FileFormat
    #: Only for CSV: what the header says.
    csv: CsvLayout | None = None
    #: Rows if that is known without reading them (Parquet).
    rows: int | None = None


@dataclass(frozen=True)
class Segment:
    """A stretch of `file`: row groups for Parquet, bytes for text."""

    #: The file.
    file: InputFile
    #: First row group or byte.
    start: int = 0
    #: Row group or byte after the last; None for all that follow.
    stop: int | None = None
    #: Number of the first row in its file, from 0.
    first_row: int = 0
    #: Rows to read at most.
    row_limit: int | None = None
    #: Only for text: lines of the file before the first record, a header among them.
    first_line: int = 0

    @property
    def whole(self) -> bool:
        """Whether the segment is all of its file, so that its reader sees every row."""
        begin = self.file.csv.data_start if self.file.csv else 0
        return self.start in (0, begin) and self.stop is None
