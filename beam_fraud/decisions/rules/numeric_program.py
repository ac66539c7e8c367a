"""Rules about numbers alone, for transactions that are values.

An array of one number costs a microsecond at each step of a rule, the number itself a twentieth.
The results are those of `program.Program`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from beam_fraud.decisions.rules.condition import (
    All,
    Always,
    Any,
    Arithmetic,
    Column,
    Compare,
    Condition,
    Missing,
    Negative,
    Not,
    Number,
    Value,
)
from beam_fraud.decisions.rules.rule import Rule
from beam_fraud.features.matrix import FeatureSet, Values, number_of

#: Type: a number of a transaction, by its values, its velocity features and its score.
_Reckon: TypeAlias = Callable[[Values, Mapping[str, float], float], float]
#: Type: whether a condition holds for it.
_Holds: TypeAlias = Callable[[Values, Mapping[str, float], float], bool]
_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class NumericProgram:
    """Compiled rules whose conditions consist of numbers."""

    def __init__(self, conditions: Sequence[_Holds]) -> None:
        """Use `of`."""
        self._conditions = conditions

    @classmethod
    def of(cls, rules: Sequence[Rule], features: FeatureSet) -> NumericProgram | None:
        """Compile rules; None if one has a part that is no number.

        Args:
          rules: rules whose names `features` and its schema provide.
          features: features of the transactions.
        """
        try:
            return cls([_holds(rule.condition, features) for rule in rules])
        except _NoNumberError:
            return None

    def holds(
        self,
        rows: Sequence[Values],
        computed: Sequence[Mapping[str, float]],
        scores: npt.NDArray[np.float64],
    ) -> list[list[bool]]:
        """Return for each rule whether it holds for each row.

        Args:
          rows: n transactions, by the columns of `Schema.transactions`.
          computed: the velocity features of each.
          scores: float64[n].
        """
        given = list(zip(rows, computed, scores.tolist(), strict=True))
        return [[holds(*one) for one in given] for holds in self._conditions]


class _NoNumberError(Exception):
    """A part of a condition that is a text, a list or a share of the transactions."""


def _holds(part: Condition, features: FeatureSet) -> _Holds:
    match part:
        case Always(value):
            return lambda row, computed, score: value
        case Compare(symbol, left, right):
            return _compared(_reckon(left, features), symbol, _reckon(right, features))
        case Missing(operand, negated):
            number = _reckon(operand, features)
            return lambda row, computed, score: math.isnan(number(row, computed, score)) != negated
        case All(parts):
            every = [_holds(inner, features) for inner in parts]
            return lambda row, computed, score: all(h(row, computed, score) for h in every)
        case Any(parts):
            some = [_holds(inner, features) for inner in parts]
            return lambda row, computed, score: any(h(row, computed, score) for h in some)
        case Not(inner):
            denied = _holds(inner, features)
            return lambda row, computed, score: not denied(row, computed, score)
    raise _NoNumberError


def _compared(one: _Reckon, symbol: str, other: _Reckon) -> _Holds:
    if symbol == "!=":
        return lambda row, computed, score: _unequal(
            one(row, computed, score), other(row, computed, score)
        )
    holds = _COMPARE[symbol]
    return lambda row, computed, score: holds(
        one(row, computed, score), other(row, computed, score)
    )


def _reckon(part: Value, features: FeatureSet) -> _Reckon:
    match part:
        case Number(value):
            number = float(value)
            return lambda row, computed, score: number
        case Column("score", "number"):
            return lambda row, computed, score: score
        case Column(name, "number"):
            read = number_of(name, features)
            return lambda row, computed, score: read(row, computed)
        case Arithmetic(symbol, left, right):
            one, other = _reckon(left, features), _reckon(right, features)
            reckon = _quotient if symbol == "/" else _ARITHMETIC[symbol]
            return lambda row, computed, score: reckon(
                one(row, computed, score), other(row, computed, score)
            )
        case Negative(operand):
            positive = _reckon(operand, features)
            return lambda row, computed, score: -positive(row, computed, score)
    raise _NoNumberError


def _quotient(one: float, other: float) -> float:
    # A division by zero is missing, not infinite.
    return one / other if other else math.nan


def _unequal(one: float, other: float) -> bool:
    # The only comparison that is true for NaN, a missing number.
    return one != other and one == one and other == other
