"""Find, check, split and read files of every format."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from os.path import commonpath, realpath
from pathlib import PurePosixPath
from typing import NamedTuple, Protocol

import pyarrow as pa

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.records.time_settlement import (
    SETTLING_ROWS,
    contested,
    settled_forms,
    times_alone,
    uncontested_forms,
)
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.sources.avro import avro_columns, check_avro, read_avro, split_avro
from beam_fraud.sources.csv import read_layout
from beam_fraud.sources.delta import delta_table
from beam_fraud.sources.file_format import (
    COLUMNAR,
    REPLAY,
    FileFormat,
    check_first_bytes,
    format_in_directory,
    format_of,
    is_note,
    may_be_array,
    unknown_format,
)
from beam_fraud.sources.filesystem import FoundFile, TextStream, list_files, open_file, sole_member
from beam_fraud.sources.iceberg import iceberg_table
from beam_fraud.sources.json_array import is_array
from beam_fraud.sources.nested import with_nested
from beam_fraud.sources.orc import check_orc, orc_columns, read_orc, split_orc
from beam_fraud.sources.parquet import check_parquet, parquet_columns, read_parquet, split_parquet
from beam_fraud.sources.partitions import partition_fields, partitions_of
from beam_fraud.sources.replayed import find_replayed, read_replayed
from beam_fraud.sources.segment import InputFile, Partitions, Segment
from beam_fraud.sources.tables import (
    DataFile,
    Table,
    kind_of,
    refuse_within_tables,
)
from beam_fraud.sources.text import count_records, read_text, split_text
from beam_fraud.storage.urls import Place


class _Check(Protocol):
    def __call__(
        self, place: Place, schema: Schema, *, labels: Labels, also: pa.Schema
    ) -> tuple[int | None, tuple[str, ...]]: ...


class _Read(Protocol):
    def __call__(
        self, segment: Segment, schema: Schema, block_rows: int, *, labels: Labels
    ) -> Iterator[pa.RecordBatch]: ...


class _Columnar(NamedTuple):
    """How to read a format of columns: names, check by a schema, cut into segments, read one."""

    columns: Callable[[Place], pa.Schema]
    check: _Check
    split: Callable[[InputFile, int], Iterator[Segment]]
    read: _Read


_COLUMNAR = {
    "parquet": _Columnar(parquet_columns, check_parquet, split_parquet, read_parquet),
    "orc": _Columnar(orc_columns, check_orc, split_orc, read_orc),
    "avro": _Columnar(avro_columns, check_avro, split_avro, read_avro),
}
_LOG = logging.getLogger(__name__)
#: Bytes of a JSON file that tell an array from lines.
_BEGINNING = 256


def find_inputs(places: Sequence[Place], schema: Schema, *, labels: Labels) -> list[InputFile]:
    """Return the files of paths, directories and globs, checked against `schema`.

    A file that several of them match is read once. If two files have the same relative name, all
    names are relative to their common folder.

    Raises:
      FraudError: a path matches nothing, or a file contradicts its name, or lacks or mistypes a
        column.
      UsageError: a file has an unknown ending.
    """
    return [file for found in found_files(places) for file in inspect(found, schema, labels=labels)]


def found_files(places: Sequence[Place]) -> list[FoundInput]:
    """Return the files of paths, directories and globs, each once, with the format by its name.

    If two files have the same relative name, all names are relative to their common folder.

    Raises:
      FraudError: a path matches nothing.
      UsageError: a file has an unknown ending.
    """
    by_place: dict[str, FoundInput] = {}
    for pattern in places:
        for found in _found(pattern):
            _check_name(found.file.path)
            real = realpath(found.file.path) if found.file.place.local else found.file.path
            by_place.setdefault(real, found)
    names = _distinct_names([found.file for found in by_place.values()])
    return [
        found._replace(file=replace(found.file, name=names[found.file.path]))
        for found in by_place.values()
    ]


def opened_format(
    listed: FoundFile, file_format: FileFormat, name: str, encoding: str | None
) -> tuple[FileFormat, str]:
    """Check a file's first bytes; return its format, and its name with that of an archive's member.

    Args:
      listed: the file.
      file_format: by its name.
      name: its name.
      encoding: of text that is not UTF-8, else None.

    Raises:
      FraudError: the file cannot be read, or contradicts its name.
    """
    if file_format.name in ("csv", "jsonl", "zip"):
        file_format = replace(file_format, encoding=encoding)
    try:
        with open_file(listed.place) as file:
            check_first_bytes(listed.path, file_format, file.read(4))
    except OSError as error:
        raise FraudError(f"{listed.path}: cannot be read: {error}", Code.INPUT_UNREADABLE) from None
    if file_format.name == "zip":
        member = sole_member(listed.place)
        inner = format_of(member)
        if inner is None or inner.compression or inner.name in (*COLUMNAR, "zip"):
            raise FraudError(
                f"{listed.path}: its file {member} is read only unpacked", Code.INPUT_FORMAT
            )
        file_format, name = (
            replace(file_format, name=inner.name, compression="zip"),
            f"{name}/{member}",
        )
    if file_format.name == "jsonl" and may_be_array(name):
        with TextStream(listed.place, file_format) as text:
            file_format = replace(file_format, array=is_array(text.read(_BEGINNING)))
    return file_format, name


def stored_columns(place: Place, file_format: FileFormat) -> pa.Schema:
    """Return the columns of a file of `COLUMNAR`.

    Raises:
      FraudError: it is not readable.
    """
    return _COLUMNAR[file_format.name].columns(place)


class FoundInput(NamedTuple):
    """A file, and what its table says of it if it is of one."""

    file: FoundFile
    format: FileFormat
    table: Table | None = None
    data: DataFile | None = None


def _found(pattern: Place) -> list[FoundInput]:
    """Return the files of known formats of a path, or those of a table."""
    if (kind := kind_of(pattern)) is not None:
        table = delta_table(pattern) if kind == "Delta" else iceberg_table(pattern)
        _LOG.info("%s: %s, %d files", pattern.shown, table.shown, len(table.files))
        if not table.files:
            raise FraudError(f"{pattern.shown}: the table has no rows", Code.INPUT_EMPTY)
        return [FoundInput(data.file, FileFormat("parquet"), table, data) for data in table.files]
    files = list_files(pattern)
    refuse_within_tables(files)
    known = [FoundInput(file, form) for file in files if (form := _format(file, pattern))]
    if not known:
        raise unknown_format(files[0].path)
    if len(known) < len(files):
        _LOG.warning(
            "%s: %d files of no known format left out", pattern.shown, len(files) - len(known)
        )
    return known


def input_paths(places: Sequence[Place]) -> list[str]:
    """Return the paths of files of known formats and of tables, each once.

    Raises:
      FraudError: a path matches nothing.
    """
    paths: list[str] = []
    for place in places:
        if kind_of(place) is not None:
            paths.append(place.name)
        else:
            paths += [file.path for file in list_files(place) if format_of(file.path)]
    return list(dict.fromkeys(paths))


def split_file(file: InputFile, bytes_each: int | None) -> Iterator[Segment]:
    """Cut a file into segments of about `bytes_each`; into a single one if that is None."""
    if file.format.name == "replay":
        yield Segment(file)
    elif file.format.name in COLUMNAR:
        split = _COLUMNAR[file.format.name].split
        yield from [Segment(file)] if bytes_each is None else split(file, bytes_each)
    else:
        yield from split_text(file, bytes_each)


def find_history(
    history: Sequence[Place], files: Sequence[InputFile], schema: Schema, *, labels: Labels
) -> list[InputFile]:
    """Return the history files; empty, with a warning, without velocity features.

    Args:
      history: files, directories or globs.
      files: the files that are to be scored.
      schema: the schema of all files.
      labels: treatment of labels.

    Raises:
      UsageError: a file is its own history.
      FraudError: a file does not exist, cannot be read or lacks a column.
    """
    if not history:
        return []
    if not schema.velocity:
        _LOG.warning("schema %s has no velocity features: --history adds nothing", schema.name)
        return []
    inputs = find_inputs(history, schema, labels=labels)
    _refuse_own(files, inputs)
    return inputs


def _refuse_own(files: Sequence[InputFile], history: Sequence[InputFile]) -> None:
    own = {realpath(file.path) for file in files}
    for file in history:
        if realpath(file.path) in own:
            raise UsageError(
                f"--history {file.path}: is among the files as well; give it once",
                Code.PLACE_SHARED,
            )


def limit_files(files: Sequence[InputFile], rows: int) -> list[Segment]:
    """Return segments of the first `rows` rows of consecutive files."""
    segments = []
    for file in files:
        if rows <= 0:
            break
        count = min(rows, file.rows) if file.rows is not None else count_records(file, rows)
        segments += [replace(s, row_limit=count) for s in split_file(file, None)]
        rows -= count
    return segments


def read_segment(
    segment: Segment, schema: Schema, block_rows: int, *, labels: Labels
) -> Iterator[pa.RecordBatch]:
    """Yield raw batches (`sources.raw`) of at most `block_rows` rows, in the file's order.

    Raises:
      FraudError: the file cannot be read further.
    """
    if segment.file.format.name in COLUMNAR:
        read = _COLUMNAR[segment.file.format.name].read
        return read(segment, schema, block_rows, labels=labels)
    if segment.file.format.name == "replay":
        return read_replayed(segment, block_rows)
    return read_text(segment, block_rows)


def _check_name(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        shown = path.encode(errors="backslashreplace").decode()
        raise FraudError(
            f"{shown}: its name is not UTF-8; rename it", Code.INPUT_UNREADABLE
        ) from None


def _format(file: FoundFile, pattern: Place) -> FileFormat | None:
    """Return the format by the name; replay and .txt files count only if named explicitly."""
    if pattern.name.endswith(REPLAY) and file.path == pattern.name:
        return FileFormat("replay")
    named = is_note(pattern.name)
    return format_of(file.path) if named else format_in_directory(file.path)


def inspect(found: FoundInput, schema: Schema, *, labels: Labels) -> list[InputFile]:
    """Check a file; return the inputs in it: itself, or the sources of a replay file.

    Raises:
      FraudError: the file cannot be read, contradicts its name, or lacks or mistypes a column.
    """
    listed, file_format, table, data = found
    file_format, name = opened_format(listed, file_format, listed.name, schema.source.decoder)
    layout, rows, names = None, None, None
    if file_format.name == "replay":
        forms = uncontested_forms(schema, "a replay", labels=labels)
        replayed = find_replayed(listed.place, listed.size, schema, labels=labels)
        return [replace(file, forms=forms) for file in replayed]
    # A replay knows the name of a text file alone, not the directories above.
    path = listed.path if file_format.name in COLUMNAR else name
    wanted = schema.columns(labels=labels)
    partitions = partitions_of(path, wanted)
    if data is not None:
        partitions = tuple((key, value) for key, value in data.partitions if key in wanted)
    if table is not None and data is not None:
        also = _absent_types(table, partitions, wanted)
        rows, names = check_parquet(
            listed.place, schema, labels=labels, also=also, renamed=data.renamed
        )
    elif file_format.name in COLUMNAR:
        check = _COLUMNAR[file_format.name].check
        also = partition_fields(partitions)
        rows, names = check(listed.place, schema, labels=labels, also=also)
    elif file_format.name == "csv":
        keys = [key for key, _ in partitions]
        layout = read_layout(listed.place, file_format, schema, labels=labels, also=keys)
        names = (*layout.columns, *keys)
    there = None if names is None else frozenset(schema.columns(labels="known")) & set(names)
    inspected = InputFile(
        listed.place,
        name,
        listed.size,
        file_format,
        layout,
        rows,
        there,
        partitions=partitions,
        of_table=table is not None,
        deleted=b"" if data is None else data.deleted,
        renamed=() if data is None else data.renamed,
    )
    if not contested(schema.time.forms):
        return [inspected]
    (whole,), times = split_file(inspected, None), times_alone(schema)
    raw = read_segment(whole, times, SETTLING_ROWS, labels=labels)
    forms = settled_forms(raw, times, listed.path, labels=labels)
    return [replace(inspected, forms=forms)]


def _absent_types(table: Table, partitions: Partitions, wanted: Sequence[str]) -> pa.Schema:
    """Return the columns that rows have by their table, with null for those of later versions."""
    types = {name: pa.string() for name, _ in partitions}
    there = set(with_nested(table.columns, wanted).names)
    types |= {name: pa.null() for name in wanted if name in there and name not in types}
    return pa.schema(list(types.items()))


def _distinct_names(files: Sequence[FoundFile]) -> dict[str, str]:
    if len({file.name for file in files}) == len(files):
        return {file.path: file.name for file in files}
    if len({file.place.local is None for file in files}) == 2:
        return {file.path: file.path for file in files}
    common = PurePosixPath(commonpath([file.path for file in files]))
    return {file.path: str(PurePosixPath(file.path).relative_to(common)) for file in files}
