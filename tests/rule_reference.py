"""Conditions evaluated literally, a row at a time; missing is None."""

from __future__ import annotations

import math
import operator

from beam_fraud.decisions.rules.condition import (
    All,
    Always,
    Among,
    Any,
    Arithmetic,
    Column,
    Compare,
    Condition,
    Missing,
    Negative,
    Not,
    Number,
    Text,
    Value,
)

Row = dict[str, float | str | None]
_ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
_COMPARE = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def holds(condition: Condition, row: Row) -> bool:
    """Return whether a condition holds for a row."""
    match condition:
        case Always(value):
            return value
        case All(parts):
            return all(holds(part, row) for part in parts)
        case Any(parts):
            return any(holds(part, row) for part in parts)
        case Not(part):
            return not holds(part, row)
        case Missing(operand, negated):
            return (value_of(operand, row) is None) != negated
        case Among(operand, values, negated):
            value = value_of(operand, row)
            return value is not None and (value in values) != negated
        case Compare(symbol, left, right):
            one, other = value_of(left, row), value_of(right, row)
            return one is not None and other is not None and _COMPARE[symbol](one, other)
    raise AssertionError(condition)


def value_of(value: Value, row: Row) -> float | str | None:
    """Return a value of a row, or None."""
    match value:
        case Number(number):
            return number
        case Text(text):
            return text
        case Column(name):
            return row[name]
        case Negative(operand):
            result = value_of(operand, row)
            return None if result is None else -result
        case Arithmetic(symbol, left, right):
            one, other = value_of(left, row), value_of(right, row)
            if one is None or other is None or (symbol == "/" and other == 0):
                return None
            result = _ARITHMETIC[symbol](one, other)
            return None if math.isnan(result) else result
    raise AssertionError(value)
