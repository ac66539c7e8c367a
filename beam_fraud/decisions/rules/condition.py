"""What a rule's condition is made of, once it has been read and all in it is known to fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

#: What a name stands for: float64 with NaN for what is missing, or strings with null for it.
Kind = Literal["number", "text"]
Comparison = Literal["==", "!=", "<", "<=", ">", ">="]
Operator = Literal["+", "-", "*", "/"]


@dataclass(frozen=True)
class Number:
    """A number that is written down."""

    value: float


@dataclass(frozen=True)
class Text:
    """A text that is written down."""

    value: str


@dataclass(frozen=True)
class Column:
    """A column or feature, by its name."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class Arithmetic:
    """Two numbers to a number; what divides by zero, or has a part that is missing, is missing."""

    operator: Operator
    left: Value
    right: Value


@dataclass(frozen=True)
class Negative:
    """A number with its sign turned."""

    operand: Value


@dataclass(frozen=True)
class Compare:
    """Two numbers, or two texts (only `==` and `!=`), compared; false if one of them is missing."""

    operator: Comparison
    left: Value
    right: Value


@dataclass(frozen=True)
class Among:
    """Whether a value is one of those of a list, or (`negated`) is there and is none of them."""

    operand: Value
    values: tuple[float, ...] | tuple[str, ...]
    negated: bool


@dataclass(frozen=True)
class Missing:
    """Whether a value is missing, or (`negated`) is there."""

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
    """`not`: true also where a comparison is false because a value is missing."""

    part: Condition


Value: TypeAlias = Number | Text | Column | Arithmetic | Negative
Condition: TypeAlias = Compare | Among | Missing | Always | All | Any | Not


def columns_of(part: Condition | Value) -> Iterator[Column]:
    """Yield the columns that a condition looks at, as they come, some of them several times."""
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
