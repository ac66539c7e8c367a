"""Read files of labels with columns of any names: charge-backs, decisions of another system."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.records.parse import parse
from beam_fraud.records.validate import LabelColumns, validate_labels
from beam_fraud.schema.notation import LabelNotation, NumberNotation
from beam_fraud.schema.schema import FeatureColumn, Schema
from beam_fraud.schema.text_file import read_text_file
from beam_fraud.schema.toml import schema_from_toml
from beam_fraud.sources.columns import lacks_column
from beam_fraud.sources.segment import InputFile
from beam_fraud.sources.source import FoundInput, found_files, inspect, read_segment, split_file
from beam_fraud.storage.urls import Place
from beam_fraud.wording import did_you_mean

#: Roles of the columns of a file of labels; each is the column's name unless a mapping says else.
ROLES = (
    *("transaction_id", "label", "labelled_at", "labelled_by", "reason"),
    *("event_time", "account_id", "merchant_id"),
)
#: Roles that a row may lack.
_OPTIONAL = ("account_id", "merchant_id")


@dataclass(frozen=True)
class LabelMapping:
    """The meaning of the columns of label files, and defaults for rows that lack them."""

    #: A file in the form of a schema: `[roles]` with those of `ROLES`, `[time]`, `[label]`,
    #: `[ids]`, `[missing]`, `[source]`, `timezone`; None for none.
    file: Path | None = None
    #: Role to column; takes precedence.
    columns: Mapping[str, str] = field(default_factory=dict)
    #: Spellings of fraud in the label's column, every other value is genuine; empty for those of
    #: the file, else 1 and true.
    fraud: tuple[str, ...] = ()
    #: Label of every row, 0 or 1; None for that of its column.
    label: int | None = None
    #: When rows were labelled that do not say so, microseconds; None: such a row is a dead letter.
    labelled_at: int | None = None
    #: By whom rows were labelled that do not say so.
    who: str = ""

    def __post_init__(self) -> None:
        """Check the roles.

        Raises:
          UsageError: one is unknown.
        """
        for role in self.columns:
            _check_role(role, "--column")


def _check_role(role: str, where: str) -> None:
    if role not in ROLES:
        hint = did_you_mean(role, ROLES, f"the roles are {', '.join(ROLES)}")
        raise UsageError(f"{where}: unknown role {role!r}; {hint}", Code.SCHEMA_VALUE)


@dataclass(frozen=True)
class _Reading:
    """How one file is read."""

    schema: Schema
    columns: LabelColumns
    #: Roles and columns that somebody has named.
    roles: frozenset[str]
    named: tuple[str, ...]


def read_label_rows(
    places: Sequence[Place], mapping: LabelMapping, now: int, block_rows: int = 20_000
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Read labels block by block; a bad row costs itself alone.

    Args:
      places: files, directories or globs.
      mapping: what the columns mean.
      now: this machine's time, microseconds; later labels are dead letters.
      block_rows: rows of a block.

    Yields:
      The labels and the dead letters of a block, as `validate_labels` returns them.

    Raises:
      UsageError: the mapping is invalid.
      FraudError: a file cannot be read, or lacks a column.
    """
    for found in found_files(places):
        reading, file = _inspected(found, mapping)
        for segment in split_file(file, None):
            for raw in read_segment(segment, reading.schema, block_rows, labels="known"):
                parsed = parse(raw, reading.schema, labels="known")
                yield validate_labels(parsed, reading.schema, reading.columns, now)


def _inspected(found: FoundInput, mapping: LabelMapping) -> tuple[_Reading, InputFile]:
    """Check a file with any times."""
    for time in ("event_time", "labelled_at", "transaction_id"):
        reading = _reading(mapping, time)
        try:
            (file,) = inspect(found, reading.schema, labels="known")
            break
        except FraudError as error:
            if error.code != Code.COLUMN_MISSING:
                raise
            if time in (*reading.roles, "transaction_id"):
                raise _of_ids(found, mapping, error) from None
    _check_columns(found, file, reading, mapping)
    return reading, file


def _of_ids(found: FoundInput, mapping: LabelMapping, error: FraudError) -> FraudError:
    """Return the error of a missing column; for that of the ids, one that names its option."""
    reading = _reading(mapping, "transaction_id")
    if "transaction_id" in reading.roles:
        return error
    try:
        inspect(found, reading.schema, labels="known")
    except FraudError:
        return _lacks(found, reading, "transaction_id", "ids of transactions", "")
    return error


def _check_columns(
    found: FoundInput, file: InputFile, reading: _Reading, mapping: LabelMapping
) -> None:
    """Raise FraudError if a file has no column of labels, or of what somebody has named.

    Files of JSON have the columns of each of their rows.
    """
    if file.columns is None:
        return
    for column in reading.named:
        if column not in file.columns:
            there = sorted(file.columns) if file.csv is None else file.csv.columns
            raise lacks_column(found.file.path, column, there, reading.schema)
    schema = reading.schema
    if mapping.label is None and schema.roles["label"] not in file.columns:
        more = ", or give --label fraud for a file of frauds alone"
        raise _lacks(found, reading, "label", "labels", more)
    if mapping.labelled_at is None and schema.roles["labelled_at"] not in file.columns:
        what, more = "time when the label was known", ", or give --labelled-at T"
        raise _lacks(found, reading, "labelled_at", what, more)


def _lacks(
    found: FoundInput, reading: _Reading, role: str, what: str, otherwise: str
) -> FraudError:
    return FraudError(
        f"{found.file.path}: has no column {reading.schema.roles[role]!r}; name the one of the "
        f"{what} by --column {role}=NAME{otherwise}",
        Code.COLUMN_MISSING,
    )


def _reading(mapping: LabelMapping, time: str) -> _Reading:
    """Return how to read a file.

    Args:
      mapping: what the columns mean.
      time: role of the column that stands for the time, which a schema needs: `event_time`, or in
        files without it another one.
    """
    named: dict[str, Any] = {}

    def complete(roles: dict[str, Any]) -> dict[str, Any]:
        for role in roles:
            _check_role(role, f"{mapping.file}: [roles]")
        named.update({**roles, **mapping.columns})
        every = {role: named.get(role, role) for role in ROLES}
        # A schema needs a time and an amount, and has no reason: other columns stand for them, and
        # their values are not used. Ids come last, so that they are read as such.
        return {
            "amount": _first_column(every["transaction_id"]),
            "event_time": every[time],
            "currency": _first_column(every["reason"]),
            **{role: every[role] for role in ("label", "labelled_at", *_OPTIONAL)},
            "transaction_id": every["transaction_id"],
        }

    text = "" if mapping.file is None else _text_of(mapping.file)
    where = "labels" if mapping.file is None else str(mapping.file)
    schema = schema_from_toml(text, where, complete=complete)
    id_column, who = schema.roles["amount"], _first_column(named.get("labelled_by", "labelled_by"))
    schema = replace(
        schema,
        # Numbers in this notation are text, and ids keep their zeros.
        numbers={id_column: NumberNotation(decimal=",")},
        optional=_OPTIONAL,
        features=(FeatureColumn(who, "categorical", missing="allow"),),
        calendar=False,
        velocity=(),
        labels=LabelNotation(positive=mapping.fraud) if mapping.fraud else schema.labels,
    )
    return _Reading(
        schema,
        LabelColumns(
            labelled_by=who,
            reason=schema.roles["currency"],
            event_time=schema.roles["event_time"] if time == "event_time" else None,
            label=mapping.label,
            labelled_at=mapping.labelled_at,
            who=mapping.who,
        ),
        frozenset(named),
        tuple(part for value in named.values() for part in _columns_of(value)),
    )


def _text_of(path: Path) -> str:
    try:
        return read_text_file(path)
    except (OSError, UnicodeDecodeError) as error:
        raise FraudError(
            f"--mapping {path}: cannot be read: {error}", Code.SCHEMA_UNREADABLE
        ) from None


def _columns_of(value: Any) -> tuple[str, ...]:
    """Return the columns of a role's value in a schema: a name, a list, or a table with either."""
    column = value.get("column", "") if isinstance(value, dict) else value
    return (column,) if isinstance(column, str) else tuple(map(str, column))


def _first_column(value: Any) -> str:
    columns = _columns_of(value)
    return columns[0] if columns else ""
