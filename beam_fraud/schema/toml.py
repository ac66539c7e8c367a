"""Load a schema from a preset's name or a TOML file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.schema.presets import PRESETS
from beam_fraud.schema.schema import FeatureColumn, Kind, Missing, Schema
from beam_fraud.schema.text_file import T, Table, must_be, read_table, read_text_file, read_toml
from beam_fraud.schema.velocity import Velocity

_Texts = str | list[str]


class _Table(Table):
    code = Code.SCHEMA_VALUE


class _Amount(_Table):
    allow_negative: Annotated[bool, must_be("true or false")] = False


class _Feature(_Table):
    column: Annotated[str, must_be("the name of a column", min_length=1)]
    kind: Annotated[Kind, must_be("one of numeric, categorical")] = "numeric"
    missing: Annotated[Missing, must_be("one of reject, allow")] = "reject"


class _Velocity(_Table):
    key: Annotated[_Texts, must_be('as in key = "account_id" or ["account_id", "merchant_id"]')]
    windows: Annotated[_Texts, must_be('as in windows = ["1d", "7d"]')]
    aggregates: Annotated[_Texts, must_be('as in aggregates = ["count", "mean"]')]
    delay: Annotated[str, must_be('text, as in delay = "7d"')] = "0d"


class _Document(_Table):
    name: Annotated[str | None, must_be("text")] = None
    timezone: Annotated[str, must_be('text, as in timezone = "Europe/Brussels"')] = "UTC"
    time_origin: Annotated[str | None, must_be("text, an ISO 8601 time")] = None
    calendar: Annotated[bool, must_be("true or false")] = True
    roles: Annotated[dict[str, Any], must_be("written as [roles]")] = {}
    amount: Annotated[dict[str, Any], must_be("written as [amount]")] = {}
    feature: Annotated[Sequence[Any], must_be("written as [[feature]]")] = ()
    velocity: Annotated[Sequence[Any], must_be("written as [[velocity]]")] = ()


def load_schema(name_or_path: str | Path) -> Schema:
    """Return the preset of that name, or the schema in that TOML file.

    Raises:
      UsageError: there is no such preset or file, or the contents are invalid.

    Example:
      >>> load_schema("handbook").role("amount")
      'TX_AMOUNT'
    """
    name = str(name_or_path)
    if name in PRESETS:
        return PRESETS[name]
    path = Path(name)
    try:
        if not path.is_file():
            raise UsageError(
                f"schema {name!r} is neither a preset ({', '.join(PRESETS)}) nor a TOML file",
                Code.SCHEMA_UNREADABLE,
            )
        return schema_from_toml(read_text_file(path), where=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise FraudError(
            f"schema file {path} cannot be read: {error}", Code.SCHEMA_UNREADABLE
        ) from None


def schema_from_toml(text: str, where: str = "schema") -> Schema:
    """Parse the TOML form of a schema.

    Args:
      text: the file's content.
      where: the file's name, for messages.

    Raises:
      UsageError: invalid TOML, an unknown key or a value of the wrong type.
    """
    document = read_toml(text, _Document, where)
    for role, column in document.roles.items():
        if not isinstance(column, str) or not column:
            raise UsageError(
                f"{where}: [roles] {role} must be the name of a column", Code.SCHEMA_VALUE
            )
    features = _entries(document.feature, _Feature, "feature", "column", where)
    velocity = _entries(document.velocity, _Velocity, "velocity", "key", where)
    return Schema(
        name=Path(where).stem if document.name is None else document.name,
        roles=document.roles,
        features=tuple(FeatureColumn(one.column, one.kind, one.missing) for _, one in features),
        calendar=document.calendar,
        timezone=document.timezone,
        allow_negative=read_table(document.amount, _Amount, f"{where}: [amount]").allow_negative,
        time_origin=document.time_origin,
        velocity=tuple(_velocity(one, at) for at, one in velocity),
    )


def _entries(
    tables: Sequence[Any], kind: type[T], key: str, name: str, where: str
) -> Iterator[tuple[str, T]]:
    """Yield each table of `[[key]]`, after what a message calls it."""
    for number, table in enumerate(tables, 1):
        value = table.get(name, number) if isinstance(table, dict) else number
        called = "_".join(map(str, value)) if isinstance(value, list) else value
        at = f"{where}: [[{key}]] {called}"
        yield at, read_table(table, kind, at)


def _velocity(table: _Velocity, where: str) -> Velocity:
    try:
        return Velocity(
            _texts(table.key), _texts(table.windows), _texts(table.aggregates), table.delay
        )
    except UsageError as error:
        raise UsageError(f"{where}: {str(error).partition(': ')[2]}", error.code) from None


def _texts(value: _Texts) -> tuple[str, ...]:
    """A list of strings; one string stands for a list of one."""
    return (value,) if isinstance(value, str) else tuple(value)
