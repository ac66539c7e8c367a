"""The first rows of files with every column, read as `score` reads them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from beam_fraud.errors import Code, FraudError
from beam_fraud.records.parse import parse
from beam_fraud.records.times import as_text
from beam_fraud.schema.notation import PLAIN_TEXT, UTF_8, SourceNotation, Unwrap
from beam_fraud.schema.schema import RESERVED, FeatureColumn, Labels, Schema
from beam_fraud.sources.columns import is_text
from beam_fraud.sources.csv import DELIMITERS, read_header, split_header
from beam_fraud.sources.file_format import COLUMNAR, FileFormat
from beam_fraud.sources.filesystem import FoundFile, TextStream, open_file
from beam_fraud.sources.nested import names_within, with_nested
from beam_fraud.sources.partitions import all_partitions
from beam_fraud.sources.raw import REASON
from beam_fraud.sources.source import (
    find_inputs,
    found_files,
    opened_format,
    read_segment,
    split_file,
    stored_columns,
)
from beam_fraud.storage.urls import Place

#: Rows of a file that are read, and rows of a batch.
SAMPLE_ROWS, _BLOCK_ROWS = 50_000, 10_000
#: Bytes of text that tell encoding, delimiter and quote.
_BEGINNING = 4 << 20
#: Lines of CSV that are divided by each delimiter, and records of JSON whose members are listed.
_LINES, _RECORDS = 200, 1_000
#: Maximum depth of members of members.
_DEPTH = 8
#: Envelopes, a member that each has, and where its record is.
_ENVELOPES: tuple[tuple[Unwrap, str, str], ...] = (
    ("debezium", "op", "after."),
    ("debezium", "payload.op", "payload.after."),
    ("cloudevents", "specversion", "data."),
)
#: A number or a time of digits.
_DATUM = re.compile(r"[+-]?[0-9][0-9.,:/\-\s]*([TZ][0-9.:+Z-]*)?")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Sample:
    """The first rows of files."""

    #: Paths of the files.
    files: tuple[str, ...]
    #: How their text is written.
    source: SourceNotation
    #: The columns of n rows; text where files write text.
    table: pa.Table
    #: Whether these are all rows.
    whole: bool
    #: What could not be told, or not be read.
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Described:
    """A file, its columns and how its text is written."""

    listed: FoundFile
    names: tuple[str, ...]
    #: Columns of truth values.
    flags: tuple[str, ...]
    source: SourceNotation
    notes: tuple[str, ...] = ()


def read_sample(places: Sequence[Place]) -> Sample:
    """Read the first rows of each file.

    Raises:
      FraudError: a file cannot be read, has no rows, or files have no column in common.
      UsageError: a file has an unknown ending.
    """
    described = [_describe(found.file, found.format) for found in found_files(places)]
    first = described[0]
    for one in described:
        if not set(one.names) - set(one.flags):
            raise FraudError(
                f"{one.listed.path}: has no column that can be a time or an amount",
                Code.COLUMN_MISSING,
            )
    notes = list(first.notes)
    common = [name for name in first.names if all(name in one.names for one in described)]
    common = common if set(common) - set(first.flags) else []
    for one in described[1:]:
        if one.source != first.source:
            raise FraudError(
                f"{one.listed.path}: its text is written otherwise than that of "
                f"{first.listed.path} ({_differences(one.source, first.source)}); infer a schema "
                "for each",
                Code.INPUT_FORMAT,
            )
    if not common:
        raise FraudError(
            f"{described[1].listed.path}: has no column of {first.listed.path}; infer a schema "
            "for each",
            Code.COLUMN_MISSING,
        )
    lacking = sorted({name for one in described for name in one.names} - set(common))
    if lacking:
        notes.append(f"columns that some of the files lack are left out: {', '.join(lacking)}")
    tables, whole, unread = [], True, 0
    for one in described:
        table, ended, faulty = _rows(one, common)
        tables.append(table)
        whole, unread = whole and ended, unread + faulty
    rows = _together(tables)
    if not len(rows):
        files = ", ".join(one.listed.path for one in described)
        raise FraudError(f"{files}: no rows to tell anything by", Code.INPUT_EMPTY)
    if unread:
        notes.append(f"{unread:,} records of {unread + len(rows):,} are malformed")
    paths = tuple(one.listed.path for one in described)
    return Sample(paths, first.source, rows, whole, tuple(notes))


def _describe(listed: FoundFile, by_name: FileFormat) -> _Described:
    encoding = None
    if by_name.name in ("csv", "jsonl"):
        with open_file(listed.place) as file:
            encoding = "utf-16" if file.read(2) in _UTF_16 else None
    form, _ = opened_format(listed, by_name, listed.name, encoding)
    source = PLAIN_TEXT if encoding is None else replace(PLAIN_TEXT, encoding=encoding)
    if form.name in COLUMNAR:
        return _columnar(listed, stored_columns(listed.place, form), source)
    beginning = b""
    with TextStream(listed.place, form) as stream:
        while len(beginning) < _BEGINNING and (chunk := stream.read(_BEGINNING)):
            beginning += chunk
    guessed, notes = _encoding(beginning) if encoding is None else (UTF_8, ())
    if guessed != UTF_8:
        source = replace(source, encoding=guessed)
        form = replace(form, encoding=guessed)
    text = beginning.decode(guessed, errors="replace").removeprefix("\ufeff")
    if form.name == "jsonl":
        return _members(listed, text, source, notes)
    # Names what is wrong with a first line that is no header.
    header = read_header(listed.place, form)
    return _csv(listed, header, text, source, notes)


def _columnar(listed: FoundFile, arrow: pa.Schema, source: SourceNotation) -> _Described:
    names, flags, out = [], [], []
    known = names_within(arrow)
    types = with_nested(arrow, known)
    for name in known:
        type = types.field(name).type if types.names.count(name) == 1 else None
        if type is not None and pat.is_dictionary(type):
            type = type.value_type
        if type is not None and pat.is_boolean(type):
            flags.append(name)
        elif type is None or not (
            is_text(type) or pat.is_primitive(type) or pat.is_decimal(type) or pat.is_null(type)
        ):
            out.append(name)
            continue
        names.append(name)
    notes = (f"columns that are lists, or twice there: {', '.join(out)}",) if out else ()
    keys = [key for key, _ in all_partitions(listed.path) if key.isprintable()]
    names += [key for key in keys if key not in known and not set(key) & set('"\\')]
    return _Described(listed, tuple(names), tuple(flags), source, notes)


def _encoding(beginning: bytes) -> tuple[str, tuple[str, ...]]:
    """Return the encoding of text, and what is not certain about it."""
    lines = beginning[: beginning.rfind(b"\n") + 1] or beginning
    for encoding in (UTF_8, "cp1252", "latin-1"):
        try:
            lines.decode(encoding)
        except UnicodeDecodeError:
            continue
        break
    if encoding == UTF_8:
        return encoding, ()
    return encoding, (
        f'the text is not UTF-8; encoding = "{encoding}" reads it, and so do other encodings of '
        "one byte: check an accent",
    )


def _csv(
    listed: FoundFile, header: str, text: str, source: SourceNotation, notes: tuple[str, ...]
) -> _Described:
    lines = text.splitlines()[:_LINES]
    # A field with a line end takes several lines, so most lines need to agree, not all.
    delimiter = max(DELIMITERS, key=lambda mark: _agreement(lines, mark))
    rows = _divided(lines, delimiter)
    names = split_header(header, delimiter)
    if _in_single_quotes(rows[1:]):
        source = replace(source, quote="'")
        names = split_header(header, delimiter, "'")
    if delimiter != ",":
        source = replace(source, delimiter=delimiter)
    if any(_is_datum(name) for name in names):
        names = tuple(f"column_{number}" for number in range(1, len(names) + 1))
        source = replace(source, header=names)
        notes = (*notes, "the first line is a row, so files have no header: name the columns")
    usable = tuple(n for n in names if n and n.isprintable() and not set(n) & set('"\\'))
    return _Described(listed, usable, (), source, notes)


def _agreement(lines: Sequence[str], delimiter: str) -> tuple[bool, int]:
    """Return whether a delimiter divides most lines like the first, and into how many fields."""
    widths = [len(row) for row in _divided(lines, delimiter)]
    agree = bool(widths) and widths[0] > 1 and 2 * widths.count(widths[0]) > len(widths)
    return agree, widths[0] if widths else 0


def _divided(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    try:
        return [row for row in csv.reader(lines, delimiter=delimiter) if row]
    except csv.Error:
        return []


def _in_single_quotes(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether a column has all its values in single quotes."""
    return any(
        values and all(len(value) > 1 and value[0] == value[-1] == "'" for value in values)
        for values in zip(*rows, strict=False)
    )


def _is_datum(name: str) -> bool:
    """Return whether a field of a header is a value: a number, or a date."""
    return _DATUM.fullmatch(name) is not None


def _members(
    listed: FoundFile, text: str, source: SourceNotation, notes: tuple[str, ...]
) -> _Described:
    """Describe a file of JSON by the members of its first records."""
    names, flags = dict[str, None](), dict[str, None]()
    for line in islice(text.split("\n"), _RECORDS):
        try:
            record = msgspec.json.decode(line)
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            continue
        for name, value in _leaves(record):
            if name.isprintable() and not set(name) & set('"\\'):
                names[name] = None
                if isinstance(value, bool):
                    flags[name] = None
    # An envelope's members are not the record's.
    for unwrap, mark, within in _ENVELOPES:
        inner = [name.removeprefix(within) for name in names if name.startswith(within)]
        if mark in names and inner:
            source = replace(source, unwrap=unwrap)
            flags = dict.fromkeys(name for name in inner if f"{within}{name}" in flags)
            names = dict.fromkeys(inner)
    if not names:
        raise FraudError(
            f"{listed.path}: none of its first records is a JSON object", Code.INPUT_FORMAT
        )
    return _Described(listed, tuple(names), tuple(flags), source, notes)


def _leaves(record: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    if not isinstance(record, dict) or depth > _DEPTH:
        return
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{name}.", depth + 1)
        elif not isinstance(value, list):
            yield f"{path}{name}", value


def _rows(file: _Described, names: Sequence[str]) -> tuple[pa.Table, bool, int]:
    """Return the first rows, whether these are all, and how many records were malformed."""
    flags = [name for name in names if name in file.flags]
    columns = [name for name in names if name not in flags]
    schema, labels = _reader(columns, flags, file.source)
    tables, rows, faulty, ended = [], 0, 0, True
    for found in find_inputs([file.listed.place], schema, labels=labels):
        for raw in _raw_batches(found, schema, labels):
            parsed = parse(raw, schema, labels=labels)
            if REASON in parsed.schema.names:
                sound = parsed.column(REASON).is_null()
                faulty += len(parsed) - sound.true_count
                parsed = parsed.filter(sound)
            arrays = [_column(parsed, name) for name in names]
            tables.append(pa.Table.from_arrays(arrays, names=list(names)))
            rows += len(parsed)
            if rows >= SAMPLE_ROWS:
                ended = False
                break
    return _together(tables), ended, faulty


def _column(parsed: pa.RecordBatch, name: str) -> pa.Array:
    if name not in parsed.schema.names:
        return pa.nulls(len(parsed))
    values = parsed.column(name)
    return values.dictionary_decode() if pat.is_dictionary(values.type) else values


def _raw_batches(found: Any, schema: Schema, labels: Labels) -> Iterator[pa.RecordBatch]:
    for segment in split_file(found, None):
        yield from read_segment(segment, schema, _BLOCK_ROWS, labels=labels)


def _reader(
    columns: Sequence[str], flags: Sequence[str], source: SourceNotation
) -> tuple[Schema, Labels]:
    """Return a schema that reads columns as they are: the parts of one time, and categories."""
    roles = {"event_time": " + ".join(columns), "amount": columns[0]}
    if label := next((flag for flag in flags if flag in RESERVED), None):
        roles["label"] = label
    features = tuple(
        FeatureColumn(flag, "categorical", "allow") for flag in flags if flag not in RESERVED
    )
    schema = Schema("columns", {"event_time": roles["amount"], "amount": roles["amount"]})
    return (
        replace(
            schema,
            roles=roles,
            features=features,
            composites={roles["event_time"]: tuple(columns)} if len(columns) > 1 else {},
            source=source,
        ),
        "known" if label else "ignored",
    )


def _together(tables: Sequence[pa.Table]) -> pa.Table:
    """Join tables of the same names; columns of different types as text."""
    if not tables:
        return pa.table({})
    columns = {}
    for name in tables[0].column_names:
        chunks = [chunk for table in tables for chunk in table.column(name).chunks]
        if len({chunk.type for chunk in chunks if not pat.is_null(chunk.type)}) > 1:
            chunks = [as_text(chunk).cast(pa.string()) for chunk in chunks]
        types = [chunk.type for chunk in chunks if not pat.is_null(chunk.type)]
        type = types[0] if types else pa.null()
        columns[name] = pa.chunked_array(
            [chunk if chunk.type == type else pa.nulls(len(chunk), type) for chunk in chunks], type
        ).combine_chunks()
        if isinstance(columns[name], pa.ChunkedArray):
            columns[name] = pc.cast(columns[name], type).combine_chunks()
    return pa.table(columns)


def _differences(one: SourceNotation, other: SourceNotation) -> str:
    names = ("encoding", "delimiter", "quote", "header")
    return ", ".join(name for name in names if getattr(one, name) != getattr(other, name))
