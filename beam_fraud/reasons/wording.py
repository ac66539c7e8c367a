"""Reasons in plain words: what a value is, and what it usually is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from beam_fraud.features.matrix import FeatureSet
from beam_fraud.reasons.explainer import Floats
from beam_fraud.reasons.numbers import as_money, as_number
from beam_fraud.reasons.velocity_wording import velocity_words

#: A value, not NaN or one of a feature that knows what an absent one means, to words.
Words = Callable[[float], str]

_CALENDAR = {
    "is_night": ("by day", "at night"),
    "is_weekend": ("on a weekday", "at the weekend"),
}


class Wording:
    """Says what the values of a model's features mean.

    Example:
      >>> import numpy as np
      >>> from beam_fraud.presets import HANDBOOK
      >>> features = FeatureSet(HANDBOOK)
      >>> wording = Wording(features, np.full(len(features.names), 1.0))
      >>> wording.text(features.names.index("account_count_1d"), 7.0)
      '7 transactions of the account in 1 day, usually 1'
    """

    def __init__(self, features: FeatureSet, usual: Floats) -> None:
        """Prepare the words of each feature.

        Args:
          features: what the model takes.
          usual: float64[features], NaN where it is not known.
        """
        velocity = velocity_words(features.velocity)
        self._words = [
            _Feature(name, features, velocity, float(usual[place])).text
            for place, name in enumerate(features.names)
        ]

    def text(self, feature: int, value: float, *, lowers: bool = False) -> str:
        """A value in words.

        Args:
          feature: its position.
          value: as the model was given it, NaN if absent.
          lowers: whether it made the score lower, which is then said.
        """
        words = self._words[feature](value)
        return f"{words} (speaks against fraud)" if lowers else words


class _Feature:
    """The words of one feature."""

    def __init__(
        self,
        name: str,
        features: FeatureSet,
        velocity: Mapping[str, tuple[Words, Words]],
        usual: float,
    ) -> None:
        kinds = {column.column: column.kind for column in features.schema.features}
        self._compares = True
        self._name = name
        self._categories = features.categories.get(name, ())
        if name in velocity:
            self._long, self._short = velocity[name]
        elif name == "amount":
            self._long, self._short = self._amount, as_money
        elif name in _CALENDAR:
            self._compares = False
            self._long = self._short = self._calendar
        elif kinds.get(name) == "categorical":
            self._long, self._short = self._category, self._code
        else:
            self._long, self._short = self._number, as_number
        self._usual = "" if math.isnan(usual) else self._short(usual)

    def text(self, value: float) -> str:
        words = self._long(value)
        if not self._compares or not self._usual:
            return words
        same = not math.isnan(value) and self._short(value) == self._usual
        return f"{words}, as usual" if same else f"{words}, usually {self._usual}"

    def _amount(self, value: float) -> str:
        return "amount unknown" if math.isnan(value) else f"amount {as_money(value)}"

    def _calendar(self, value: float) -> str:
        return _CALENDAR[self._name][int(value > 0)]

    def _number(self, value: float) -> str:
        return (
            f"{self._name} unknown" if math.isnan(value) else f"{self._name} = {as_number(value)}"
        )

    def _category(self, value: float) -> str:
        if math.isnan(value):
            return f"{self._name} unknown"
        known = int(value) < len(self._categories)
        return f"{self._name} {self._code(value)}" if known else f"a new {self._name}"

    def _code(self, value: float) -> str:
        code = int(value)
        return self._categories[code] if code < len(self._categories) else "another one"
