"""Load a schema from a preset's name or a TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.schema.presets import PRESETS
from beam_fraud.schema.schema import FeatureColumn, Kind, Missing, Schema
from beam_fraud.schema.text_file import parse_toml, read_text_file
from beam_fraud.schema.velocity import Velocity
from beam_fraud.wording import did_you_mean

_TOP_LEVEL = (
    *("name", "timezone", "time_origin", "calendar"),
    *("roles", "amount", "feature", "velocity"),
)
_FEATURE = ("column", "kind", "missing")
_VELOCITY = ("key", "windows", "aggregates", "delay")


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
    document = parse_toml(text, where)
    _known_keys(document, _TOP_LEVEL, where)
    roles = _typed(document, "roles", dict, {}, where)
    for role, column in roles.items():
        if not isinstance(column, str) or not column:
            raise UsageError(
                f"{where}: [roles] {role} must be the name of a column", Code.SCHEMA_VALUE
            )
    amount = _typed(document, "amount", dict, {}, where)
    _known_keys(amount, ("allow_negative",), f"{where}: [amount]")
    entries = _typed(document, "feature", list, [], where)
    specs = _typed(document, "velocity", list, [], where)
    return Schema(
        name=_typed(document, "name", str, Path(where).stem, where),
        roles=roles,
        features=tuple(_feature(entry, f"{where}: [[feature]]") for entry in entries),
        calendar=_typed(document, "calendar", bool, True, where),
        timezone=_typed(document, "timezone", str, "UTC", where),
        allow_negative=_typed(amount, "allow_negative", bool, False, f"{where}: [amount]"),
        time_origin=_typed(document, "time_origin", str, None, where),
        velocity=tuple(_velocity(spec, f"{where}: [[velocity]]") for spec in specs),
    )


def _feature(entry: object, where: str) -> FeatureColumn:
    if not isinstance(entry, dict):
        raise UsageError(f"{where} must be a table", Code.SCHEMA_VALUE)
    table = cast(dict[str, Any], entry)
    _known_keys(table, _FEATURE, where)
    column = _typed(table, "column", str, "", where)
    if not column:
        raise UsageError(f"{where}: column is missing", Code.SCHEMA_VALUE)
    where = f"{where} {column}"
    kind = _one_of(table, "kind", ("numeric", "categorical"), where)
    missing = _one_of(table, "missing", ("reject", "allow"), where)
    return FeatureColumn(column, cast(Kind, kind), cast(Missing, missing))


def _velocity(entry: object, where: str) -> Velocity:
    if not isinstance(entry, dict):
        raise UsageError(f"{where} must be a table", Code.SCHEMA_VALUE)
    table = cast(dict[str, Any], entry)
    _known_keys(table, _VELOCITY, where)
    key = _texts(table, "key", '"account_id" or ["account_id", "merchant_id"]', where)
    where = f"{where} {'_'.join(key)}"
    windows = _texts(table, "windows", '["1d", "7d"]', where)
    aggregates = _texts(table, "aggregates", '["count", "mean"]', where)
    delay = _typed(table, "delay", str, "0d", where)
    try:
        return Velocity(key, windows, aggregates, delay)
    except UsageError as error:
        raise UsageError(f"{where}: {str(error).partition(': ')[2]}", error.code) from None


def _texts(table: dict[str, Any], key: str, example: str, where: str) -> tuple[str, ...]:
    """Return a list of strings; a single string counts as a list of one."""
    value = table.get(key)
    if value is None:
        raise UsageError(f"{where}: {key} is missing (as in {key} = {example})", Code.SCHEMA_VALUE)
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise UsageError(
            f"{where}: {key} must be as in {key} = {example}, not {value!r}", Code.SCHEMA_VALUE
        )
    return tuple(cast(list[str], values))


def _one_of(table: dict[str, Any], key: str, values: tuple[str, ...], where: str) -> str:
    value = table.get(key, values[0])
    if value not in values:
        raise UsageError(
            f"{where}: {key} must be one of {', '.join(values)}, not {value!r}", Code.SCHEMA_VALUE
        )
    return str(value)


def _typed(table: dict[str, Any], key: str, kind: type, default: Any, where: str) -> Any:
    value = table.get(key, default)
    if value is not default and not isinstance(value, kind):
        raise UsageError(
            f"{where}: {key} must be a {kind.__name__}, not {value!r}", Code.SCHEMA_VALUE
        )
    return value


def _known_keys(table: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            hint = did_you_mean(key, known, f"known: {', '.join(known)}")
            raise UsageError(f"{where}: unknown key {key!r}, {hint}", Code.SCHEMA_VALUE)
