"""The syntax tree of a checked condition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

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
    """Whether a value is in a list, or (`negated`) present and not in it."""

    operand: Value
    values: tuple[float, ...] | tuple[str, ...]
    negated: bool


@dataclass(frozen=True)
class Missing:
    """Whether a value is missing, or (`negated`) present."""

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
Condition: TypeAlias = Compare | Among | Missing | Always | All | Any | Not


def columns_of(part: Condition | Value) -> Iterator[Column]:
    """Yield the columns of a condition in order, with repeats."""
    match part:
        case Column():
            yield part
        case Arithmetic(_, left, right) | Compare(_, left, right):
            yield from columns_of(left)
            yield from columns_of(right)
        case Negative(operand) | Among(operand) | Missing(operand):
            yield from columns_of(operand)
        case All(parts) | Any(parts):
            for each in parts:
                yield from columns_of(each)
        case Not(inner):
            yield from columns_of(inner)
