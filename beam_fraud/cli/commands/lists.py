"""`beam-fraud lists`: add, remove, import and show entries of lists that rules name."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import msgspec

from beam_fraud.cli.commands.rules import lists_directory
from beam_fraud.cli.commands.times import parse_moment, parse_seconds
from beam_fraud.cli.options import (
    ListAddOptions,
    ListImportOptions,
    ListRemoveOptions,
    ListShowOptions,
)
from beam_fraud.cli.options.registry import ChangeListOptions, ExpiryOptions, ListPlaceOptions
from beam_fraud.cli.terminal.columns import table
from beam_fraud.decisions.lists.changes import (
    Change,
    append_changes,
    list_file,
    list_names,
    missing_list,
    refuse_declared,
)
from beam_fraud.decisions.lists.declaration import Declared
from beam_fraud.decisions.lists.membership import Membership
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.models.registry.registry import Author
from beam_fraud.schema.event_time import micros_of
from beam_fraud.storage.urls import Place
from beam_fraud.wording import did_you_mean, own_call, printable, reason_of


@dataclass(frozen=True)
class _Call:
    """The shared fields of the changes of a call."""

    directory: Path
    name: str
    who: str
    at: datetime
    reason: str | None

    @classmethod
    def of(cls, options: ChangeListOptions) -> _Call:
        directory = _directory(options)
        refuse_declared(directory, options.name)
        author = Author.of(options.who, options.reason)
        return cls(directory, options.name, author.who, datetime.now(UTC), author.why)

    def add(self, value: str, until: datetime | None, reason: str | None = None) -> Change:
        return Change(value, "add", self.at, self.who, until, reason or self.reason)

    def remove(self, value: str) -> Change:
        return Change(value, "remove", self.at, self.who, None, self.reason)

    def append(self, changes: Iterable[Change]) -> dict[str, object]:
        count = append_changes(self.directory, self.name, changes)
        return {"list": self.name, "changes": count, "entries": _count(self.directory, self.name)}


def run_add(options: ListAddOptions) -> dict[str, object]:
    """Add values.

    Raises:
      UsageError: an option or a value is invalid.
      FraudError: the list cannot be written.
    """
    call = _Call.of(options)
    until = _until(options, call.at)
    return call.append(call.add(value, until) for value in options.values)


def run_remove(options: ListRemoveOptions) -> dict[str, object]:
    """Remove values.

    Raises:
      FraudError: there is no such list, or a value is not in it.
    """
    call = _Call.of(options)
    entries = _entries(call.directory, call.name)
    for value in options.values:
        if value not in entries:
            raise FraudError(
                f"list {call.name}: has no {printable(value)!r}; nothing was removed",
                Code.LIST_INVALID,
            )
    return call.append(call.remove(value) for value in dict.fromkeys(options.values))


def run_import(options: ListImportOptions) -> dict[str, object]:
    """Add the values of a file, all or none.

    Raises:
      UsageError: an option or a value is invalid.
      FraudError: a file cannot be read, or the list cannot be written.
    """
    call = _Call.of(options)
    until = _until(options, call.at)
    added = [
        call.add(value, ends or until, reason)
        for value, ends, reason in _rows_of(Place.parse(options.file), options)
    ]
    if not added:
        raise FraudError(f"{options.file}: holds no value", Code.INPUT_EMPTY)
    changes: list[Change] = []
    if options.replace and list_file(call.directory, call.name).exists():
        values = {change.value for change in added}
        gone = _entries(call.directory, call.name).keys() - values
        changes = [call.remove(value) for value in sorted(gone)]
    return call.append([*changes, *added])


def run_show(options: ListShowOptions) -> dict[str, object]:
    """Return the lists with their counts; or the entries of one, the newest first.

    Raises:
      FraudError: there is no such directory or list, or it cannot be read.
    """
    directory = _directory(options)
    if not directory.is_dir():
        raise FraudError(
            f"--lists {directory}: is not there; `{own_call()} lists add` makes it",
            Code.LIST_MISSING,
        )
    if options.name is None:
        names = list_names(directory)
        return {"lists": [{"list": name, "entries": _count(directory, name)} for name in names]}
    # Its name is checked, too.
    list_file(directory, options.name)
    if options.name not in list_names(directory):
        raise missing_list(directory, options.name)
    declared = Declared.read(directory, options.name)
    source = declared.source()
    history = source.history()
    entries = _in_force(history)
    if options.value is not None:
        shown = [change for change in history if change.value == options.value]
    else:
        shown = list(entries.values())[::-1][: options.limit]
    return {
        "list": options.name,
        **({} if declared.text is None else {"source": source.describe()}),
        "entries": len(entries),
        "shown": msgspec.to_builtins(shown),
    }


def render_show(result: dict[str, object]) -> str:
    """Return a line per list, or per entry."""
    if "lists" in result:
        lists = cast(list[dict[str, Any]], result["lists"])
        if not lists:
            return f"There are no lists; `{own_call()} lists add` makes one."
        counts = [("list", "entries"), *((one["list"], f"{one['entries']:,}") for one in lists)]
        return "\n".join(table(counts, right={1}))
    rows: list[tuple[str, ...]] = [("value", "change", "time", "who", "until", "reason")]
    for one in cast(list[dict[str, Any]], result["shown"]):
        values = (one["value"], one["action"], (one["at"] or "-")[:19], one["who"] or "-")
        ends = (one.get("until") or "-")[:19]
        rows.append(tuple(map(printable, (*values, ends, one.get("reason") or "-"))))
    source = f", from {result['source']}" if "source" in result else ""
    return "\n".join([f"{result['list']}: {result['entries']:,} entries{source}", "", *table(rows)])


def render_change(result: dict[str, object]) -> str:
    """Return what was done."""
    return f"{result['list']}: changes {result['changes']:,}, entries {result['entries']:,}"


render_add = render_remove = render_import = render_change


def _directory(options: ListPlaceOptions) -> Path:
    directory = lists_directory(options.lists)
    assert directory is not None
    return directory


def _until(options: ExpiryOptions, now: datetime) -> datetime | None:
    if options.until is not None and options.span is not None:
        raise UsageError("--until: not together with --for", Code.OPTION_CONFLICT)
    if options.span is not None:
        return now + timedelta(seconds=parse_seconds("--for", options.span))
    return parse_moment("--until", options.until)


def _entries(directory: Path, name: str) -> dict[str, Change]:
    """Return the entries of a list in force now, by value, the newest last."""
    return _in_force(Declared.read(directory, name).source().history())


def _in_force(history: Iterable[Change]) -> dict[str, Change]:
    entries: dict[str, Change] = {}
    for change in history:
        entries.pop(change.value, None)
        if change.action == "add":
            entries[change.value] = change
    now = datetime.now(UTC)
    return {
        value: change
        for value, change in entries.items()
        if change.until is None or change.until > now
    }


def _count(directory: Path, name: str) -> int:
    members, source = Membership(), Declared.read(directory, name).source()
    members.reload(source.read_all().changes)
    source.close()
    return members.count(micros_of(datetime.now(UTC)))


_Row = tuple[str, datetime | None, str | None]


def _rows_of(place: Place, options: ListImportOptions) -> Iterator[_Row]:
    """Yield the value, expiry and reason of each row of a file."""
    path, shown = place.local, place.shown
    if path is None:
        raise UsageError(f"{shown}: give a file of this machine", Code.INPUT_FORMAT)
    is_csv = path.suffix.lower() == ".csv"
    if options.column is not None and not is_csv:
        raise UsageError("--column: needs a .csv file", Code.OPTION_CONFLICT)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            yield from _of_csv(file, shown, options.column) if is_csv else _of_lines(file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        raise FraudError(f"{shown}: cannot be read ({reason})", Code.INPUT_UNREADABLE) from None


def _of_lines(file: Iterable[str]) -> Iterator[_Row]:
    for line in file:
        if (value := line.strip()) and not value.startswith("#"):
            yield value, None, None


def _of_csv(file: Iterable[str], shown: str, column: str | None) -> Iterator[_Row]:
    rows = csv.reader(file)
    header = next(rows, [])
    if column is not None and column not in header:
        hint = did_you_mean(column, header, f"its columns are {', '.join(header)}")
        raise FraudError(f"{shown}: has no column {column!r}; {hint}", Code.COLUMN_MISSING)
    value_at = header.index(column) if column is not None else 0
    until_at, reason_at = (
        header.index(name) if name in header else None for name in ("until", "reason")
    )
    for row in rows:
        if not row:
            continue
        if len(row) != len(header):
            raise csv.Error(f"line {rows.line_num} has {len(row)} fields, not {len(header)}")
        ends = row[until_at] if until_at is not None else ""
        reason = row[reason_at] if reason_at is not None else ""
        where = f"{shown} line {rows.line_num}: until"
        yield row[value_at], parse_moment(where, ends or None), reason or None
