"""Partition keys of directories, as in `day=2024-02-08/part.parquet`, as columns and as times."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.types as pat

from beam_fraud.schema.event_time import micros_of
from beam_fraud.sources.segment import Partitions

#: Value of a directory without one, as Hive writes it.
_ABSENT = "__HIVE_DEFAULT_PARTITION__"
#: A date or month with dashes, under any key, and one of digits alone, under a key of dates.
_DASHED = re.compile(
    r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})"
    r"(-(?P<day>[0-9]{2})([T _-](?P<hour>[0-9]{2})(:00){0,2})?)?"
)
_DIGITS = re.compile(
    r"(?P<year>[0-9]{4})(?P<month>[0-9]{2})((?P<day>[0-9]{2})(?P<hour>[0-9]{2})?)?"
)
_OF_DATES = re.compile(r"(?:.*[^a-z])?(?:date|day|dt|ds|month|hour)", re.IGNORECASE)
#: Parts of a time, the largest first.
_PARTS = ("year", "month", "day", "hour")


def partitions_of(path: str, columns: Collection[str]) -> Partitions:
    """Return the keys and values in the directories of a path, those of `columns` alone.

    Example:
      >>> partitions_of("days/day=2024-02-08/country=C%C3%B4te/a.parquet", ("country", "shop"))
      (('country', 'Côte'),)
    """
    return tuple(one for one in all_partitions(path) if one[0] in columns)


def all_partitions(path: str) -> Partitions:
    """Return every key and value in the directories of a path."""
    found: dict[str, str | None] = {}
    for directory in path.split("/")[:-1]:
        key, equals, value = directory.partition("=")
        if equals:
            found[unquote(key)] = None if value == _ABSENT else unquote(value)
    return tuple(found.items())


@dataclass(frozen=True)
class TimeDirectories:
    """The directories of a path that say a time."""

    #: Their names, joined by a comma.
    name: str
    #: Their keys and values.
    columns: Partitions
    #: Microseconds of the epoch from which, and before which the time is.
    begin: int
    end: int


def time_directories(partitions: Partitions) -> TimeDirectories | None:
    """Return the directories that say a year, month, day or hour, in UTC; None without them.

    Example:
      >>> time_directories((("year", "2024"), ("country", "NG"), ("month", "2"))).name
      'year=2024,month=2'
      >>> day = time_directories((("booked_on", "2024-02-08"),))
      >>> (day.end - day.begin) // 3_600_000_000
      24
      >>> time_directories((("run", "20240208"),))
    """
    parts: dict[str, int] = {}
    columns = []
    for key, value in partitions:
        said = _parts(key, value or "")
        parts |= said
        if said:
            columns.append((key, value))
    there = [part for part in _PARTS if part in parts]
    if not there or there != list(_PARTS[: len(there)]):
        return None
    try:
        begin = datetime(
            parts["year"],
            parts.get("month", 1),
            parts.get("day", 1),
            parts.get("hour", 0),
            tzinfo=UTC,
        )
        end = _next(begin, there[-1])
    except (ValueError, OverflowError):
        return None
    name = ",".join(
        f"{quote(key, safe='')}={quote(value or '', safe='')}" for key, value in columns
    )
    return TimeDirectories(name, tuple(columns), micros_of(begin), micros_of(end))


def _parts(key: str, value: str) -> dict[str, int]:
    whole = _DASHED.fullmatch(value) or (_OF_DATES.fullmatch(key) and _DIGITS.fullmatch(value))
    if whole:
        return {part: int(text) for part, text in whole.groupdict().items() if text}
    part = key.lower()
    return {part: int(value)} if part in _PARTS and re.fullmatch("[0-9]{1,4}", value) else {}


def _next(begin: datetime, part: str) -> datetime:
    if part == "year":
        return begin.replace(year=begin.year + 1)
    if part == "month":
        return (begin + timedelta(days=31)).replace(day=1)
    return begin + (timedelta(days=1) if part == "day" else timedelta(hours=1))


def partition_fields(partitions: Partitions) -> pa.Schema:
    """Return the columns that partitions are read as."""
    return pa.schema([pa.field(name, pa.string()) for name, _ in partitions])


def with_partitions(
    columns: dict[str, pa.Array], partitions: Partitions, rows: int
) -> dict[str, pa.Array]:
    """Return columns with those of partitions; keep a column that exists."""
    absent = {
        name: pa.nulls(rows, pa.string()) if value is None else pa.repeat(pa.scalar(value), rows)
        for name, value in partitions
        if name not in columns
    }
    return columns | absent


def filled(columns: dict[str, pa.Array], partitions: Partitions) -> dict[str, pa.Array]:
    """Return columns of JSON, absent values replaced by those of partitions."""
    changed = {
        name: _filled(columns[name], value)
        for name, value in partitions
        if name in columns and value is not None and columns[name].null_count
    }
    return columns | changed


def _filled(column: pa.Array, value: str) -> pa.Array:
    if pat.is_null(column.type):
        return pa.repeat(pa.scalar(value), len(column))
    if pat.is_floating(column.type):
        try:
            return column.fill_null(pa.array([value]).cast(column.type)[0])
        except pa.ArrowInvalid:
            column = column.cast(pa.string())
    return column.fill_null(pa.scalar(value.encode()).cast(column.type))
