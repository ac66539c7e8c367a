"""Columns and Arrow types that a source must have."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import pyarrow as pa
import pyarrow.types as pat

from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.schema import ID_ROLES, LABEL_ROLES, Labels, Schema
from beam_fraud.sources.nested import names_within, with_nested
from beam_fraud.wording import did_you_mean

TypeTest = Callable[[pa.DataType], bool]
#: Maximum of columns named in a message.
_SHOWN = 8
_NONE = pa.schema([])
#: Maximum of columns compared, and length from which a name is no likely candidate.
_COMPARED, _LONG = 1_000, 100


def required_columns(schema: Schema, *, labels: Labels) -> tuple[str, ...]:
    """Return the required columns: roles, and features that reject NaN."""
    optional_roles = {"labelled_at"} | (set() if labels == "required" else {"label"})
    if schema.conversion is None:
        optional_roles.add("currency")
    optional_roles |= set(schema.optional)
    needed = {
        part
        for role, column in schema.roles.items()
        if role not in optional_roles
        for part in schema.parts(column)
    }
    needed |= {f.column for f in schema.features if f.missing == "reject"}
    needed |= set(schema.key_columns)
    return tuple(column for column in schema.columns(labels=labels) if column in needed)


def absent_columns(there: Iterable[Collection[str] | None], schema: Schema) -> tuple[str, ...]:
    """Return the columns of features and optional roles that no source has.

    Args:
      there: names of each source's columns; None where unknown.
      schema: the schema.
    """
    known = list(there)
    if not known or any(names is None for names in known):
        return ()
    everywhere = {name for names in known for name in names or ()}
    roles = [schema.roles[role] for role in ("currency", *schema.optional) if role in schema.roles]
    wanted = [*(feature.column for feature in schema.features), *roles]
    return tuple(c for c in wanted if not {*schema.parts(c)} & everywhere)


def absence(columns: Sequence[str], schema: Schema) -> str:
    """Return what it means that no source has some columns, and the fix."""
    names = " and ".join(map(repr, columns))
    return (
        f"no file has column {names} of schema {schema.name}: every value is missing; "
        "name the column as the files do, or take it out of the schema"
    )


def lacks_column(path: str, column: str, there: Sequence[str], schema: Schema) -> FraudError:
    """Return the error for a missing column: it names similar columns, or some of the file's."""
    names = (name if len(name) < _LONG else f"{name[:_LONG]}…" for name in there[:_SHOWN])
    some = ", ".join(names) or "none"
    if len(there) > _SHOWN:
        some += f" and {len(there) - _SHOWN} more"
    short = [name for name in there if len(name) < _LONG][:_COMPARED]
    hint = did_you_mean(column, short, f"its columns are {some}")
    if f"/{column}=" in path:
        hint = f"name the directory above {column}=... to have it from there"
    return FraudError(
        f"{path}: column {column!r} of schema {schema.name} is not there; {hint}",
        Code.COLUMN_MISSING,
    )


def mistyped(schema: Schema, column: str, type: pa.DataType, *, labels: Labels) -> str | None:
    """Return the expected type if `type` cannot be read as `column`; None if it can."""
    if pat.is_dictionary(type):
        type = type.value_type
    if pat.is_null(type):
        return None
    for role, role_column in schema.roles.items():
        if role_column in schema.composites:
            if column in schema.composites[role_column] and not _is_part(type):
                return "text, a number, a date or a clock's time"
        elif role_column == column and (labels != "ignored" or role not in LABEL_ROLES):
            expected, accepts = _BY_ROLE[role]
            if not accepts(type):
                return expected
    for feature in schema.features:
        # A column that only links is absent if it cannot be read.
        if feature.column == column and feature.missing != "linking":
            expected, accepts = _BY_KIND[feature.kind]
            if not accepts(type):
                return expected
    if column in schema.key_columns:
        expected, accepts = _BY_KIND["categorical"]
        return None if accepts(type) else expected
    return None


def check_columns(
    where: str,
    arrow: pa.Schema,
    schema: Schema,
    *,
    labels: Labels,
    also: pa.Schema = _NONE,
) -> tuple[str, ...]:
    """Check that a schema can read columns of these names and types.

    Args:
      where: the file or table, for the message.
      arrow: names and types of its columns.
      schema: the schema.
      labels: whether labels are read as well.
      also: columns that rows have, whether they are there or not.

    Returns:
      Names of its columns, and the paths to values in them that `schema` reads.

    Raises:
      FraudError: a column is missing, repeated or of the wrong type.
    """
    columns = schema.columns(labels="known")
    outer, arrow = arrow, with_nested(arrow, columns)
    for field in also:
        arrow = arrow if field.name in arrow.names else arrow.append(field)
    for column in required_columns(schema, labels=labels):
        if column not in arrow.names:
            raise lacks_column(where, column, names_within(outer), schema)
    for column in schema.columns(labels=labels):
        if arrow.names.count(column) > 1:
            raise FraudError(
                f"{where}: column {column!r} is there twice; rename one of them", Code.COLUMN_TWICE
            )
        if column in arrow.names:
            type = arrow.field(column).type
            expected = mistyped(schema, column, type, labels=labels)
            if expected:
                raise FraudError(
                    f"{where}: column {column!r} is {type}, should be {expected}", Code.COLUMN_TYPE
                )
    return tuple(arrow.names)


def is_text(type: pa.DataType) -> bool:
    """Return whether values of `type` are strings or bytes that may be UTF-8."""
    return bool(
        pat.is_string(type)
        or pat.is_large_string(type)
        or pat.is_string_view(type)
        or pat.is_binary(type)
        or pat.is_large_binary(type)
        or pat.is_binary_view(type)
    )


def is_number(type: pa.DataType) -> bool:
    """Return whether values of `type` are numbers, or text that may spell them."""
    return bool(pat.is_integer(type) or pat.is_floating(type) or pat.is_decimal(type)) or is_text(
        type
    )


def _is_identifier(type: pa.DataType) -> bool:
    # Integers of a column with gaps are floats in many programs.
    return is_number(type)


def _is_time(type: pa.DataType) -> bool:
    return bool(pat.is_timestamp(type) or pat.is_date(type)) or is_number(type)


def _is_part(type: pa.DataType) -> bool:
    return _is_time(type) or bool(pat.is_time(type))


def _is_flag(type: pa.DataType) -> bool:
    return bool(pat.is_boolean(type)) or is_number(type)


def is_category(type: pa.DataType) -> bool:
    """Return whether values of `type` can be read as a category."""
    if pat.is_dictionary(type):
        type = type.value_type
    return bool(pat.is_null(type)) or bool(pat.is_boolean(type)) or _is_identifier(type)


_IDENTIFIER = ("an identifier (string or whole number)", _is_identifier)
_BY_ROLE: dict[str, tuple[str, TypeTest]] = {
    **dict.fromkeys(ID_ROLES, _IDENTIFIER),
    "currency": _IDENTIFIER,
    "event_time": ("a time (timestamp, date, number or string)", _is_time),
    "amount": ("a number", is_number),
    "label": ("0 or 1", _is_flag),
    "labelled_at": ("a time (timestamp, date, number or string)", _is_time),
}
_BY_KIND: dict[str, tuple[str, TypeTest]] = {
    "numeric": ("a number", _is_flag),
    "categorical": ("a category (string or whole number)", is_category),
}
