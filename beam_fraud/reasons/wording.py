"""Reasons in plain words: what a value is, and what it usually is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from beam_fraud.features.matrix import FeatureSet
from beam_fraud.reasons.explainer import Floats
from beam_fraud.reasons.numbers import as_money, as_number
from beam_fraud.reasons.velocity_wording import velocity_words
from beam_fraud.reasons.words import Words

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
      '7 transactions of the account in the last day, usually 1'
    """

    def __init__(self, features: FeatureSet, usual: Floats) -> None:
        """Prepare the words of each feature.

        Args:
          features: what the model takes.
          usual: float64[features], NaN where it is not known.
        """
        velocity = velocity_words(features.velocity)
        self._words = [_words(name, features, velocity) for name in features.names]
        self._usual = [
            words.short(value) if words.compared and not math.isnan(value) else None
            for words, value in zip(self._words, usual.tolist(), strict=True)
        ]
        places = {name: place for place, name in enumerate(features.names)}
        #: int64[features]: the feature that counts what each is a share of; itself if none does.
        self.totals: npt.NDArray[np.int64] = np.array(
            [places.get(words.total or "", at) for at, words in enumerate(self._words)], np.int64
        )

    def text(
        self, feature: int, value: float, total: float = math.nan, *, lowers: bool = False
    ) -> str:
        """A value in words.

        Args:
          feature: its position.
          value: as the model was given it, NaN if absent.
          total: of what a share is one, the value of the feature at `totals[feature]`; any other
            feature has no use for it.
          lowers: whether it made the score lower, which is then said.
        """
        words, usual = self._words[feature], self._usual[feature]
        short = None if math.isnan(value) else words.short(value)
        said = words.absent if short is None else words.long(value, short)
        if words.of_total is not None and self.totals[feature] != feature and total >= 0:
            # Of nothing there is no share, nor a usual one.
            if not total:
                return words.absent
            said = words.of_total(value, total)
        if usual is not None and (short is not None or words.compared_if_absent):
            said = f"{said}, as usual" if short == usual else f"{said}, usually {usual}"
        return f"{said} (speaks against fraud)" if lowers else said


def _words(name: str, features: FeatureSet, velocity: Mapping[str, Words]) -> Words:
    if name in velocity:
        return velocity[name]
    if name == "amount":
        return Words(as_money, lambda _, short: f"amount {short}", "amount unknown")
    if name in _CALENDAR:
        no, yes = _CALENDAR[name]
        return Words(as_number, lambda value, _: yes if value > 0 else no, no, compared=False)
    if features.names.index(name) in features.categorical:
        return _category(name, features.categories.get(name, ()))
    return Words(as_number, lambda _, short: f"{name} = {short}", f"{name} unknown")


def _category(name: str, known: Sequence[str]) -> Words:
    def short(code: float) -> str:
        return known[int(code)] if code < len(known) else "another one"

    def long(code: float, short: str) -> str:
        return f"{name} {short}" if code < len(known) else f"a new {name}"

    return Words(short, long, f"{name} unknown")
