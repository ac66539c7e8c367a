"""Conditions on the figures of a run, such as `recall < 0.9 * old.recall`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from beam_fraud.decisions.rules.condition import (
    All,
    Any,
    Column,
    Condition,
    Missing,
    Not,
    columns_of,
)
from beam_fraud.decisions.rules.expression import ConditionError, read_condition
from beam_fraud.decisions.rules.program import Program
from beam_fraud.decisions.rules.rule import Rule, RuleSet
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.wording import printable


@dataclass(frozen=True)
class FigureCondition:
    """A condition on figures, in the language of rules.

    Example:
      >>> condition = FigureCondition.read("--fail-if", "recall < 0.9 * old.recall",
      ...                                  ["recall", "old.recall"])
      >>> condition.holds({"recall": 0.7, "old.recall": 0.8})
      True
    """

    #: The option that it comes from, for messages.
    option: str
    #: The condition as it was written.
    text: str
    #: The checked condition.
    condition: Condition

    @classmethod
    def read(cls, option: str, text: str, names: Iterable[str]) -> FigureCondition:
        """Parse a condition.

        Args:
          option: the option that it comes from.
          text: the condition.
          names: names of all figures.

        Raises:
          UsageError: it is no condition, or names no figure.
        """
        try:
            return cls(option, text, read_condition(text, dict.fromkeys(names, "number"), {}))
        except ConditionError as error:
            raise UsageError(
                f"{option} {printable(text)!r}: column {error.column}: {error}",
                Code.RULE_CONDITION,
            ) from None

    @property
    def compared(self) -> tuple[str, ...]:
        """Distinct figures that it compares, but those that it tests by `is None`."""
        return tuple(dict.fromkeys(column.name for column in _compared(self.condition)))

    def holds(self, figures: Mapping[str, float | None]) -> bool:
        """Return whether the condition holds.

        Args:
          figures: a value for each name; None where it is undefined.

        Raises:
          FraudError: it compares an undefined figure. A rule would not fire, and a release
            without a measurement would pass.
        """
        for name in self.compared:
            if figures[name] is None:
                raise FraudError(
                    f"{self.option} {printable(self.text)!r}: {name} is undefined on these "
                    "rows; give rows with labels and flags, or test it by `is None`",
                    Code.FIGURE_UNDEFINED,
                )
        named = {column.name for column in columns_of(self.condition)}
        values = {name: pa.array([figures[name]], pa.float64()) for name in named}
        # One row with a column for each figure; the schema only serves calendar features.
        row = pa.RecordBatch.from_pydict(values or {"": pa.array([0.0])})
        rules = RuleSet((Rule("condition", self.condition, "review"),))
        fired = Program(rules, FeatureSet(HANDBOOK)).fired(row, np.zeros((1, 0)), np.zeros(1))
        return bool(fired.holds[0, 0])


def _compared(condition: Condition) -> Iterator[Column]:
    match condition:
        case Missing():
            return
        case All(parts) | Any(parts):
            for part in parts:
                yield from _compared(part)
        case Not(part):
            yield from _compared(part)
        case _:
            yield from columns_of(condition)
