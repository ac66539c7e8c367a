"""The format of a file: by its name, checked by its first bytes."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from beam_fraud.errors import Code, FraudError, UsageError

#: File name endings of each format.
FORMATS = {
    ".parquet": "parquet",
    ".orc": "orc",
    ".avro": "avro",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".zip": "zip",
}
#: File name endings of compressions of text.
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}

#: Byte order mark, which some programs write before UTF-8 text.
BYTE_ORDER_MARK = codecs.BOM_UTF8
#: Ending of the files that `dead-letters replay` writes and reads; no other input has it.
REPLAY = ".replay"

#: Formats of columns; all others are text.
COLUMNAR = ("parquet", "orc", "avro")

_MAGIC = {
    "gzip": b"\x1f\x8b",
    "zstd": b"\x28\xb5\x2f\xfd",
    "bz2": b"BZh",
    "zip": b"PK\x03\x04",
    "parquet": b"PAR1",
    "orc": b"ORC",
    "avro": b"Obj\x01",
    "replay": b"SQLi",
}


@dataclass(frozen=True)
class FileFormat:
    """A format and, for text, a compression."""

    #: One of `COLUMNAR`, `csv` or `jsonl`; `replay` for replayed dead letters; `zip` for an archive
    #: of one file, whose name says the format.
    name: str
    #: `gzip`, `zstd`, `bz2`, `zip` or None.
    compression: str | None = None
    #: Encoding that text is decoded from, or None for UTF-8.
    encoding: str | None = None
    #: Whether JSON is an array of records, not one record per line.
    array: bool = False

    @property
    def sequential(self) -> bool:
        """Return whether reading must start at the beginning: offsets count decoded bytes."""
        return bool(self.compression or self.encoding or self.array)


def format_of(file_name: str) -> FileFormat | None:
    """Return the format of `file_name`'s ending; None if it is unknown.

    Example:
      >>> form = format_of("day.CSV.gz")
      >>> form.name, form.compression
      ('csv', 'gzip')
    """
    stem = file_name.lower()
    compression = None
    for ending, kind in COMPRESSIONS.items():
        if stem.endswith(ending):
            stem, compression = stem.removesuffix(ending), kind
    for ending, name in FORMATS.items():
        if stem.endswith(ending) and not (name in (*COLUMNAR, "zip") and compression):
            return FileFormat(name, compression)
    return None


def may_be_array(file_name: str) -> bool:
    """Return whether JSON of this name may be one array; other names promise a record per line.

    Example:
      >>> may_be_array("day.JSON.gz"), may_be_array("day.jsonl")
      (True, False)
    """
    return _has_ending(file_name, "json")


def is_note(name: str) -> bool:
    """Return whether a file is text of any kind by its name."""
    return _has_ending(name, "txt")


def _has_ending(name: str, ending: str) -> bool:
    """Return whether a name has this ending, perhaps with a compression's behind it."""
    return re.search(rf"\.{ending}(\.[a-z0-9]+)?$", name.lower()) is not None


def format_in_directory(file_name: str) -> FileFormat | None:
    """Return the format of a file in a directory, where notes are left out; None if unknown."""
    return None if is_note(file_name) else format_of(file_name)


def unknown_format(file_name: str) -> UsageError:
    """Return the error for a file with an unknown ending."""
    known = ", ".join(FORMATS)
    return UsageError(
        f"{file_name}: its name says no known format; rename it to end in {known} "
        f"(text also with {' or '.join(COMPRESSIONS)} behind it)",
        Code.INPUT_FORMAT,
    )


def check_first_bytes(path: str, file_format: FileFormat, first: bytes) -> None:
    """Refuse a file whose contents contradict its name.

    A plain JSON-lines file is never refused: its invalid lines become dead letters.

    Args:
      path: path of the file, for the message.
      file_format: the format by the name.
      first: the first four bytes or more; fewer for a shorter file.

    Raises:
      FraudError: the bytes belong to another format.
    """
    expected = file_format.compression or file_format.name
    if expected in _MAGIC:
        if not first.startswith(_MAGIC[expected]):
            raise FraudError(
                f"{path}: is not a {expected} file, whatever its name says", Code.INPUT_FORMAT
            )
        return
    if expected == "csv":
        for other, magic in _MAGIC.items():
            if first.startswith(magic):
                raise FraudError(
                    f"{path}: is a {other} file, not CSV; rename it to say so", Code.INPUT_FORMAT
                )
        if (
            first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            and not file_format.encoding
        ):
            raise FraudError(
                f'{path}: is UTF-16; write encoding = "utf-16" under [source] of the schema',
                Code.INPUT_FORMAT,
            )
