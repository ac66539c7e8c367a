"""The syntax tree of a checked condition, and the names that it may use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from beam_fraud.decisions.rules.large_lists import ListValues
from beam_fraud.schema.schema import Schema

#: Kind of a name: float64 with NaN for missing, or string with null for missing.
Kind = Literal["number", "text"]
Comparison = Literal["==", "!=", "<", "<=", ">", ">="]
Operator = Literal["+", "-", "*", "/"]


@dataclass(frozen=True)
class Number:
    """A number literal."""

    value: float


@dataclass(frozen=True)
class Text:
    """A text literal."""

    value: str


@dataclass(frozen=True)
class Column:
    """A column or feature, by its name."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class Arithmetic:
    """Arithmetic of two numbers; missing on a division by zero or a missing operand."""

    operator: Operator
    left: Value
    right: Value


@dataclass(frozen=True)
class Negative:
    """A negated number."""

    operand: Value


@dataclass(frozen=True)
class Compare:
    """A comparison of numbers, or texts (`==`, `!=` only); false if an operand is missing."""

    operator: Comparison
    left: Value
    right: Value


@dataclass(frozen=True)
class Among:
    """A test whether a value is in a list, or (`negated`) present and not in it."""

    operand: Value
    values: ListValues
    negated: bool


@dataclass(frozen=True)
class Listed:
    """Check whether a text is in a changeable list, or (`negated`) is given and not in it."""

    column: Column
    #: Its name, without the @.
    name: str
    negated: bool


@dataclass(frozen=True)
class Sampled:
    """Check whether a text is in a share of all texts; false if it is missing.

    The share is chosen by a keyed hash, the same in every process. A larger share has all texts of
    a smaller one of the same key.
    """

    column: Column
    #: The key: other names choose other texts.
    name: str
    #: The share, per cent: above 0, below 100.
    percent: float


@dataclass(frozen=True)
class Missing:
    """A test whether a value is missing, or (`negated`) present."""

    operand: Value
    negated: bool


@dataclass(frozen=True)
class Always:
    """`True` or `False`."""

    value: bool


@dataclass(frozen=True)
class All:
    """`and`."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Any:
    """`or`."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Not:
    """`not`: also true where a comparison is false because of a missing value."""

    part: Condition


Value: TypeAlias = Number | Text | Column | Arithmetic | Negative
Condition: TypeAlias = Compare | Among | Listed | Sampled | Missing | Always | All | Any | Not


def columns_of(part: Condition | Value) -> Iterator[Column]:
    """Yield the columns of a condition in order, with repeats."""
    match part:
        case Column():
            yield part
        case Arithmetic(_, left, right) | Compare(_, left, right):
            yield from columns_of(left)
            yield from columns_of(right)
        case (
            Negative(operand)
            | Among(operand)
            | Listed(operand)
            | Sampled(operand)
            | Missing(operand)
        ):
            yield from columns_of(operand)
        case All(parts) | Any(parts):
            for each in parts:
                yield from columns_of(each)
        case Not(inner):
            yield from columns_of(inner)


def vocabulary(schema: Schema, velocity: Iterable[str] = (), *, scored: bool) -> dict[str, Kind]:
    """Return name to kind of everything known about a transaction before the decision.

    Args:
      schema: the schema of the transactions.
      velocity: names of velocity features beside the schema's own, such as a model's.
      scored: whether a model provides a `score`.

    Example:
      >>> from beam_fraud.schema.presets import HANDBOOK
      >>> list(vocabulary(HANDBOOK, scored=True))[:6]
      ['amount', 'score', 'is_weekend', 'is_night', 'transaction_id', 'account_id']
    """
    names: dict[str, Kind] = {"amount": "number"}
    if scored:
        names["score"] = "number"
    if schema.calendar:
        names |= {"is_weekend": "number", "is_night": "number"}
    names["transaction_id"] = "text"
    for role in ("account_id", "merchant_id", "currency"):
        if schema.role(role) is not None:
            names[role] = "text"
    for feature in schema.features:
        names[feature.column] = "number" if feature.kind == "numeric" else "text"
    names |= dict.fromkeys(schema.key_columns, "text")
    for definition in schema.velocity:
        names |= dict.fromkeys(definition.names, "number")
    return {**names, **dict.fromkeys(velocity, "number")}
