"""Archives: files in partitions of time, by their directories, or by the event times in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import Code, FraudError
from beam_fraud.records.event_span import parquet_span
from beam_fraud.records.parse import parse
from beam_fraud.records.time_settlement import contested, times_alone
from beam_fraud.records.validate import column_faults
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.event_time import micros_of
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.sources.partitions import TimeDirectories, all_partitions, time_directories
from beam_fraud.sources.segment import InputFile, Partitions
from beam_fraud.sources.source import FoundInput, found_files, inspect, read_segment, split_file
from beam_fraud.storage.urls import Place

#: Length of the partitions of an archive without directories.
Cut = Literal["day", "month"]
#: Partition of files in which no row has a readable time.
UNDATED = "undated"
_BLOCK_ROWS = 50_000
_MONTH = len("2024-02")
_NUMPY_UNITS = {"day": "D", "month": "M"}


@dataclass(frozen=True)
class ArchiveFile:
    """A file of an archive, listed and not yet opened."""

    found: FoundInput
    #: Partitions of which it has rows, if the archive is cut; empty if the directories tell.
    periods: tuple[str, ...] = ()

    @property
    def place(self) -> Place:
        """The file."""
        return self.found.file.place

    @property
    def path(self) -> str:
        """Absolute path or URL."""
        return self.found.file.path

    @property
    def name(self) -> str:
        """Path relative to the user's path."""
        return self.found.file.name

    @property
    def size(self) -> int:
        """Size in bytes, as stored."""
        return self.found.file.size

    @property
    def modified(self) -> float | None:
        """Time of the last change, seconds of the epoch; None where it is unknown."""
        return self.found.file.modified


def division_of(partition: str) -> str | None:
    """Return what a partition's name says of its archive: `day`, `month` or keys of directories.

    None for `UNDATED`.

    Example:
      >>> [division_of(name) for name in ("2024-01", "date=2024-01-31", "year=2024,month=1")]
      ['month', 'date', 'year,month']
    """
    if partition == UNDATED:
        return None
    if "=" in partition:
        return ",".join(part.partition("=")[0] for part in partition.split(","))
    return "month" if partition.count("-") == 1 else "day"


@dataclass(frozen=True)
class ArchivePartition:
    """Files with the rows of one time."""

    #: Name, usable as that of a directory.
    name: str
    #: The files, by name.
    files: tuple[ArchiveFile, ...]
    #: Keys and values of its directories.
    columns: Partitions = ()
    #: Microseconds of the epoch from which, and before which its times are; None for `UNDATED`.
    begin: int | None = None
    end: int | None = None

    @property
    def cut(self) -> bool:
        """Return whether a file has rows of other partitions as well."""
        return any(len(file.periods) > 1 for file in self.files)

    def inputs(self, schema: Schema, *, labels: Labels) -> list[InputFile]:
        """Open and check the files.

        Raises:
          FraudError: one cannot be read, or lacks or mistypes a column.
        """
        return [one for file in self.files for one in inspect(file.found, schema, labels=labels)]


def archive_partitions(
    places: Sequence[Place],
    schema: Schema,
    *,
    cut: Cut | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    remembered: Callable[[ArchiveFile], tuple[str, ...] | None] = lambda file: None,
) -> list[ArchivePartition]:
    """Return the partitions of files, directories and globs with event times in `[since, until)`.

    If every file is in directories of times (`date=2024-02-08`, `year=2024/month=2`), these are the
    partitions. Otherwise partitions are days or months of UTC, and a file that may have rows of
    several is read once, its times alone.

    A directory that is over a day outside the period is left out; then Parquet files by their
    statistics, and others exactly by their directory.

    Args:
      places: the archive.
      schema: the schema of its rows.
      cut: length of partitions, also where directories are shorter; None for the directories.
      since: first event time, aware; None for the first of all.
      until: event time before which rows are read, aware; None for the last of all.
      remembered: returns `ArchiveFile.periods` of an unchanged file; None of others.

    Returns:
      The partitions by time, then name.

    Raises:
      FraudError: a place matches nothing, or no file has rows in the period.
      UsageError: a file has an unknown ending.
    """
    wanted = _Span(
        None if since is None else micros_of(since), None if until is None else micros_of(until)
    )
    dated = [_Dated(ArchiveFile(found), _directories(found)) for found in found_files(places)]
    laid_out = cut is None and _laid_out([one.directories for one in dated])
    dated = [one for one in dated if _wanted(one, schema, wanted)]
    if laid_out:
        partitions = _by_directories(dated)
    else:
        partitions = _by_times(dated, schema, cut or "day", wanted, remembered)
    if not partitions:
        shown = " ".join(place.shown for place in places)
        raise FraudError(f"{shown}: no rows from --from until --until", Code.INPUT_EMPTY)
    return sorted(partitions, key=lambda one: (one.begin or 0, one.name))


def period_numbers(micros: npt.NDArray[np.int64], cut: Cut) -> npt.NDArray[np.int64]:
    """Return the days or months since 1970 of n event times."""
    days: npt.NDArray[np.int64] = micros // DAY
    if cut == "day":
        return days
    return days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)


def period_name(number: int, cut: Cut) -> str:
    """Return the name of a day or month since 1970.

    Example:
      >>> period_name(0, "day"), period_name(13, "month")
      ('1970-01-01', '1971-02')
    """
    return str(np.array([number]).astype(f"datetime64[{_NUMPY_UNITS[cut]}]")[0])


class _Span(NamedTuple):
    """Microseconds from which, and before which; None for no end."""

    begin: int | None
    end: int | None

    def meets(self, first: int, last: int, slack: int = 0) -> bool:
        """Return whether a time of [first, last] is within, or nearly."""
        return (self.begin is None or last >= self.begin - slack) and (
            self.end is None or first < self.end + slack
        )


class _Dated(NamedTuple):
    file: ArchiveFile
    directories: TimeDirectories | None


def _directories(found: FoundInput) -> TimeDirectories | None:
    table = found.data
    return time_directories(all_partitions(found.file.path) if table is None else table.partitions)


def _laid_out(directories: Iterable[TimeDirectories | None]) -> bool:
    """Return whether all files are in directories of times, and no times overlap."""
    known = list(directories)
    spans = sorted({(one.begin, one.end) for one in known if one is not None})
    apart = all(before[1] <= after[0] for before, after in pairwise(spans))
    return None not in known and apart


def _wanted(dated: _Dated, schema: Schema, wanted: _Span) -> bool:
    """Return whether a file may have rows of a period."""
    if wanted == (None, None):
        return True
    said = dated.directories
    if said is not None and not wanted.meets(said.begin, said.end - 1, slack=DAY):
        return False
    span = _statistics(dated.file, schema)
    if span is None:
        return said is None or wanted.meets(said.begin, said.end - 1)
    return wanted.meets(*span)


def _statistics(file: ArchiveFile, schema: Schema) -> tuple[int, int] | None:
    """Return the first and last event time of a Parquet file, if it says so."""
    found = file.found
    if found.format.name != "parquet" or (found.data is not None and found.data.renamed):
        return None
    if contested(schema.time.forms):
        return None
    return parquet_span(file.place, schema)


def _by_directories(dated: Iterable[_Dated]) -> list[ArchivePartition]:
    partitions: dict[int, ArchivePartition] = {}
    for file, said in dated:
        if said is not None:
            known = partitions.setdefault(
                said.begin, ArchivePartition(said.name, (), said.columns, said.begin, said.end)
            )
            partitions[said.begin] = replace(known, files=(*known.files, file))
    return list(partitions.values())


def _by_times(
    dated: Iterable[_Dated],
    schema: Schema,
    cut: Cut,
    wanted: _Span,
    remembered: Callable[[ArchiveFile], tuple[str, ...] | None],
) -> list[ArchivePartition]:
    files: dict[str, list[ArchiveFile]] = {}
    for file, said in dated:
        periods = remembered(file)
        if periods is None:
            periods = _periods(file, said, schema, cut)
        for period in periods or (UNDATED,):
            files.setdefault(period, []).append(replace(file, periods=periods))
    partitions = []
    for name, some in files.items():
        begin, end = _bounds(name)
        if begin is None or end is None or wanted.meets(begin, end - 1):
            partitions.append(ArchivePartition(name, tuple(some), (), begin, end))
    return partitions


def _bounds(period: str) -> tuple[int | None, int | None]:
    if period == UNDATED:
        return None, None
    begin = np.array([period], dtype=f"datetime64[{'D' if len(period) > _MONTH else 'M'}]")
    first, last = (day.astype("datetime64[us]").astype(np.int64) for day in (begin, begin + 1))
    return int(first[0]), int(last[0])


def _periods(
    file: ArchiveFile, said: TimeDirectories | None, schema: Schema, cut: Cut
) -> tuple[str, ...]:
    """Return the periods of which a file has rows; none if it cannot be read."""
    span = None if said is None else (said.begin, said.end - 1)
    if span is None or _distinct(span, cut)[0] != _distinct(span, cut)[-1]:
        span = _statistics(file, schema)
    if span is not None and len(numbers := set(_distinct(span, cut))) == 1:
        return (period_name(numbers.pop(), cut),)
    numbers = set()
    try:
        times = replace(times_alone(schema), timezone=schema.timezone)
        for one in inspect(file.found, times, labels="ignored"):
            for segment in split_file(one, None):
                for raw in read_segment(segment, times, _BLOCK_ROWS, labels="ignored"):
                    parsed = parse(raw, times, labels="ignored")
                    found = column_faults(parsed, times, labels="ignored")
                    numbers |= set(_distinct(found.event_times, cut))
    except FraudError:
        # The partitions of the rows before the damage; reading them reports it.
        pass
    return tuple(period_name(number, cut) for number in sorted(numbers))


def _distinct(micros: npt.ArrayLike, cut: Cut) -> list[int]:
    numbers: list[int] = np.unique(period_numbers(np.asarray(micros, dtype=np.int64), cut)).tolist()
    return numbers
