"""Load a schema from a preset's name or a TOML file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.schema.notation import (
    ABSENT,
    PLAIN,
    UTF_8,
    AmountUnit,
    IdNotation,
    LabelNotation,
    Naive,
    Negative,
    NumberNotation,
    SourceNotation,
    TimeNotation,
    TimeUnit,
    Unwrap,
)
from beam_fraud.schema.presets import PRESETS
from beam_fraud.schema.rates import Conversion, code_of, read_rates
from beam_fraud.schema.schema import ID_ROLES, FeatureColumn, Kind, Missing, Schema
from beam_fraud.schema.text_file import T, Table, must_be, read_table, read_text_file, read_toml
from beam_fraud.schema.velocity import Velocity

_Texts = str | Sequence[str]


class _Table(Table):
    code = Code.SCHEMA_VALUE


class _Numbers(_Table):
    decimal: Annotated[str | None, must_be('one character, as in decimal = ","')] = None
    thousands: Annotated[str | None, must_be('one character, as in thousands = "."')] = None
    symbol: Annotated[_Texts | None, must_be('text, as in symbol = "$" or ["EUR", "€"]')] = None
    negative: Annotated[
        Negative | None, must_be("one of minus (-5), brackets ((5)), trailing (5-)")
    ] = None


class _Amount(_Numbers):
    allow_negative: Annotated[bool, must_be("true or false")] = False
    unit: Annotated[AmountUnit, must_be("one of major (12.34), minor (1234)")] = "major"


class _Feature(_Numbers, kw_only=True):
    column: Annotated[str, must_be("the name of a column", min_length=1)]
    kind: Annotated[Kind, must_be("one of numeric, categorical")] = "numeric"
    missing: Annotated[Missing, must_be("one of reject, allow")] = "reject"


class _Time(_Table):
    format: Annotated[
        _Texts, must_be('text or a list of texts, as in format = "%d/%m/%Y %H:%M"')
    ] = ()
    unit: Annotated[TimeUnit | None, must_be("one of s, ms, us, hour, day")] = None
    origin: Annotated[str | None, must_be("text, an ISO 8601 time")] = None
    naive: Annotated[Naive | None, must_be("one of utc, local")] = None
    plausible: Annotated[bool, must_be("true or false")] = True


class _Label(_Table):
    positive: Annotated[_Texts, must_be('text or a list, as in positive = ["Yes"]')] = ()
    negative: Annotated[_Texts, must_be('text or a list, as in negative = ["No"]')] = ()
    unknown: Annotated[_Texts, must_be('text or a list, as in unknown = ["?"]')] = ()


class _Ids(_Table):
    trim: Annotated[bool | None, must_be("true or false")] = None
    prefix: Annotated[str | None, must_be('text, as in prefix = "C"')] = None
    strip: Annotated[str | None, must_be('text, as in strip = "0"')] = None
    pad: Annotated[int | None, must_be("a whole number, as in pad = 12")] = None


class _Role(_Ids):
    column: Annotated[_Texts, must_be("the name of a column, or a list of names")] = ""
    missing: Annotated[Missing, must_be("one of reject, allow")] = "reject"


class _Missing(_Table):
    spellings: Annotated[list[str], must_be('a list, as in spellings = ["", "NA", "-"]')]


class _Source(_Table):
    encoding: Annotated[str, must_be('text, as in encoding = "latin-1"')] = UTF_8
    delimiter: Annotated[str | None, must_be('one character, as in delimiter = ";"')] = None
    quote: Annotated[str, must_be('one character, as in quote = "\'", or none: ""')] = '"'
    header: Annotated[list[str], must_be('a list, as in header = ["id", "at", "value"]')] = []
    unwrap: Annotated[Unwrap | None, must_be('"debezium" or "cloudevents"')] = None


class _Currency(_Table):
    windows: Annotated[
        Literal["separate", "together"] | None, must_be("one of separate, together")
    ] = None
    to: Annotated[str | None, must_be('the code of a currency, as in to = "EUR"')] = None
    rates: Annotated[str | None, must_be('the name of a file, as in rates = "rates.csv"')] = None
    max_age: Annotated[str | None, must_be('text, as in max_age = "7d"')] = None


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
    time: Annotated[dict[str, Any], must_be("written as [time]")] = {}
    numbers: Annotated[dict[str, Any], must_be("written as [numbers]")] = {}
    ids: Annotated[dict[str, Any], must_be("written as [ids]")] = {}
    label: Annotated[dict[str, Any], must_be("written as [label]")] = {}
    missing: Annotated[dict[str, Any] | None, must_be("written as [missing]")] = None
    amount: Annotated[dict[str, Any], must_be("written as [amount]")] = {}
    currency: Annotated[dict[str, Any] | None, must_be("written as [currency]")] = None
    source: Annotated[dict[str, Any], must_be("written as [source]")] = {}
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
        return schema_from_toml(read_text_file(path), str(path), path.parent)
    except (OSError, UnicodeDecodeError) as error:
        raise FraudError(
            f"schema file {path} cannot be read: {error}", Code.SCHEMA_UNREADABLE
        ) from None


def _as_written(roles: dict[str, Any]) -> dict[str, Any]:
    return roles


def schema_from_toml(
    text: str,
    where: str = "schema",
    directory: Path = Path(),
    complete: Callable[[dict[str, Any]], dict[str, Any]] = _as_written,
) -> Schema:
    """Parse the TOML form of a schema.

    Args:
      text: the file's content.
      where: the file's name, for messages.
      directory: the directory from which it names files.
      complete: returns the values of all roles, for those under `[roles]`.

    Raises:
      UsageError: invalid TOML, an unknown key or a value of the wrong type.
      FraudError: a file that it names cannot be read.
    """
    document = read_toml(text, _Document, where)
    document.roles = complete(document.roles)
    roles = {role: _role(value, role, where) for role, value in document.roles.items()}
    columns = {role: _texts(one.column) for role, one in roles.items()}
    amount = read_table(document.amount, _Amount, f"{where}: [amount]")
    features = list(_entries(document.feature, _Feature, "feature", "column", where))
    velocity = _entries(document.velocity, _Velocity, "velocity", "key", where)
    together, conversion = _currency(document, roles, where, directory)
    return Schema(
        name=Path(where).stem if document.name is None else document.name,
        roles={role: " + ".join(parts) for role, parts in columns.items()},
        features=tuple(FeatureColumn(one.column, one.kind, one.missing) for _, one in features),
        calendar=document.calendar,
        timezone=document.timezone,
        allow_negative=amount.allow_negative,
        velocity=tuple(_velocity(one, at, False if together else None) for at, one in velocity),
        time=_time(document, where),
        numbers=_numbers(document, roles, amount, features, where),
        ids=_ids(document, roles, where),
        labels=_labels(document, where),
        absent=_absent(document, where),
        optional=tuple(role for role, one in roles.items() if one.missing == "allow"),
        source=_source(document, where),
        conversion=conversion,
        composites={" + ".join(parts): parts for parts in columns.values() if len(parts) > 1},
    )


def _role(value: Any, role: str, where: str) -> _Role:
    """Read the value of a role: a column, several columns that are joined, or a table."""
    at = f"{where}: [roles] {role}"
    if not isinstance(value, str | list | dict):
        raise UsageError(f"{at} must be the name of a column", Code.SCHEMA_VALUE)
    read = read_table(value if isinstance(value, dict) else {"column": value}, _Role, at)
    columns = _texts(read.column)
    if not columns or not all(columns):
        raise UsageError(f"{at} must be the name of a column", Code.SCHEMA_VALUE)
    if len(set(columns)) < len(columns):
        raise UsageError(f"{at} names a column twice", Code.SCHEMA_VALUE)
    if role not in ID_ROLES and (keys := _keys(read, _Ids)):
        raise UsageError(f"{at}: only an id has {next(iter(keys))}", Code.SCHEMA_VALUE)
    return read


def _time(document: _Document, where: str) -> TimeNotation:
    table = read_table(document.time, _Time, f"{where}: [time]")
    if table.origin is not None and document.time_origin is not None:
        raise UsageError(
            f"{where}: time_origin and [time] origin are the same setting; write one",
            Code.SCHEMA_VALUE,
        )
    origin = document.time_origin if table.origin is None else table.origin
    with _placed(f"{where}: [time]"):
        return TimeNotation(_texts(table.format), table.unit, origin, table.naive, table.plausible)


def _numbers(
    document: _Document,
    roles: Mapping[str, _Role],
    amount: _Amount,
    features: Sequence[tuple[str, _Feature]],
    where: str,
) -> dict[str, NumberNotation]:
    """Return the notation of each column of numbers that does not write them plainly."""
    common = read_table(document.numbers, _Numbers, f"{where}: [numbers]")
    tables = [(f"{where}: [numbers]", "", common), *((at, one.column, one) for at, one in features)]
    notations = {}
    for at, column, table in tables:
        if isinstance(table, _Feature) and table.kind != "numeric":
            if keys := _keys(table, _Numbers):
                raise UsageError(
                    f"{at}: only a numeric feature has {next(iter(keys))}",
                    Code.SCHEMA_VALUE,
                )
            continue
        with _placed(at):
            notations[column] = _number_notation(table, common)
    if "amount" in roles:
        with _placed(f"{where}: [amount]"):
            plain = _number_notation(amount, common)
            notations[_texts(roles["amount"].column)[0]] = replace(plain, unit=amount.unit)
    return {
        column: notation for column, notation in notations.items() if column and notation != PLAIN
    }


def _number_notation(table: _Numbers, common: _Numbers) -> NumberNotation:
    def value(name: str, default: Any) -> Any:
        own = getattr(table, name)
        shared = getattr(common, name)
        return own if own is not None else default if shared is None else shared

    return NumberNotation(
        value("decimal", "."),
        value("thousands", ""),
        _texts(value("symbol", ())),
        value("negative", "minus"),
    )


def _ids(document: _Document, roles: Mapping[str, _Role], where: str) -> dict[str, IdNotation]:
    """Return the notation of each role of ids that are not as written."""
    common = read_table(document.ids, _Ids, f"{where}: [ids]")
    notations = {}
    for role in ID_ROLES:
        if role in roles:
            own = _keys(roles[role], _Ids)
            with _placed(f"{where}: [roles] {role}" if own else f"{where}: [ids]"):
                notations[role] = IdNotation(**{**_keys(common, _Ids), **own})
    return {role: notation for role, notation in notations.items() if not notation.plain}


def _labels(document: _Document, where: str) -> LabelNotation:
    table = read_table(document.label, _Label, f"{where}: [label]")
    with _placed(f"{where}: [label]"):
        return LabelNotation(_texts(table.positive), _texts(table.negative), _texts(table.unknown))


def _absent(document: _Document, where: str) -> tuple[str, ...]:
    if document.missing is None:
        return ABSENT
    table = read_table(document.missing, _Missing, f"{where}: [missing]")
    return tuple(dict.fromkeys(("", *table.spellings)))


def _source(document: _Document, where: str) -> SourceNotation:
    table = read_table(document.source, _Source, f"{where}: [source]")
    with _placed(f"{where}: [source]"):
        header = tuple(table.header)
        return SourceNotation(table.encoding, table.delimiter, table.quote, header, table.unwrap)


def _currency(
    document: _Document, roles: Mapping[str, _Role], where: str, directory: Path
) -> tuple[bool, Conversion | None]:
    """Return whether windows add up all currencies, and how amounts are converted."""
    at = f"{where}: [currency]"
    if document.currency is None:
        return False, None
    if "currency" not in roles:
        raise UsageError(f"{at} needs a column for the role 'currency'", Code.ROLE_MISSING)
    table = read_table(document.currency, _Currency, at)
    if table.to is None or table.rates is None:
        for name in ("to", "rates", "max_age"):
            if getattr(table, name) is not None:
                raise UsageError(f"{at}: {name} needs to and rates", Code.SCHEMA_VALUE)
        return table.windows == "together", None
    if table.windows is not None:
        raise UsageError(
            f"{at}: windows and to exclude each other: converted amounts are of one currency",
            Code.SCHEMA_VALUE,
        )
    to = code_of(table.to)
    rates = read_rates(directory / table.rates, to, f"{at} rates")
    with _placed(at):
        return False, Conversion(to, rates, table.max_age or Conversion.max_age)


def _keys(table: _Table, kind: type[_Table]) -> dict[str, Any]:
    """Return the keys of `kind` that a table has, with their values."""
    values = ((name, getattr(table, name)) for name in kind.__struct_fields__)
    return {name: value for name, value in values if value is not None}


@contextmanager
def _placed(where: str) -> Iterator[None]:
    """Name the place of an invalid notation."""
    try:
        yield
    except ValueError as error:
        raise UsageError(f"{where}: {error}", Code.SCHEMA_VALUE) from None


def _entries(
    tables: Sequence[Any], kind: type[T], key: str, name: str, where: str
) -> Iterator[tuple[str, T]]:
    """Yield each table of `[[key]]`, after what a message calls it."""
    for number, table in enumerate(tables, 1):
        value = table.get(name, number) if isinstance(table, dict) else number
        called = "_".join(map(str, value)) if isinstance(value, list) else value
        at = f"{where}: [[{key}]] {called}"
        yield at, read_table(table, kind, at)


def _velocity(table: _Velocity, where: str, by_currency: bool | None) -> Velocity:
    try:
        return Velocity(
            _texts(table.key),
            _texts(table.windows),
            _texts(table.aggregates),
            table.delay,
            by_currency,
        )
    except UsageError as error:
        raise UsageError(f"{where}: {str(error).partition(': ')[2]}", error.code) from None


def _texts(value: _Texts) -> tuple[str, ...]:
    """A list of strings; one string is a list of one."""
    return (value,) if isinstance(value, str) else tuple(value)
