"""Reasons in words: the value of a feature and its usual value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beam_fraud.decisions.reasons.explainer import Floats
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.schema.duration import microseconds
from beam_fraud.schema.velocity import Velocity


@dataclass(frozen=True)
class Words:
    """The templates of one feature."""

    #: Text of a value alone, as after "usually".
    short: Callable[[float], str]
    #: Full text of a value and its short form.
    long: Callable[[float, str], str]
    #: Full text without a value.
    absent: str
    #: Whether the usual value adds meaning.
    compared: bool = True
    #: Whether the usual value has meaning without a value.
    compared_if_absent: bool = True
    #: The feature that counts the total of a share, if any.
    total: str | None = None
    #: Full text of a share with that count, in place of `long`.
    of_total: Callable[[float, float], str] | None = None


#: Units of time, longest first, with their seconds.
_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def as_money(value: float) -> str:
    """Format an amount with two decimals.

    Example:
      >>> as_money(2310)
      '2,310.00'
    """
    return f"{value:,.2f}"


def as_number(value: float) -> str:
    """Format a number: integers in full, others with three significant digits.

    Example:
      >>> as_number(7.0), as_number(-8.1349), as_number(51234.5)
      ('7', '-8.13', '51,234')
    """
    if (value.is_integer() or abs(value) >= 1000) and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def as_percent(share: float) -> str:
    """Format a share in percent.

    Example:
      >>> as_percent(0.384), as_percent(0.004), as_percent(0.0)
      ('38 %', '0.4 %', '0 %')
    """
    return f"{share * 100:.0f} %" if share == 0 or share >= 0.01 else f"{share * 100:.2g} %"


def counted(number: float, what: str) -> str:
    """Format a number of things.

    Example:
      >>> counted(1.0, "merchant"), counted(3.0, "merchant")
      ('1 merchant', '3 merchants')
    """
    return f"{as_number(number)} {what}{'' if number == 1 else 's'}"


def as_span(seconds: float) -> str:
    """Format a time span in the largest unit of which it has two.

    Example:
      >>> as_span(12 * 86_400), as_span(5_400), as_span(1)
      ('12 days', '90 minutes', '1 second')
    """
    for unit, length in _UNITS:
        if seconds >= 2 * length:
            return counted(float(round(seconds / length)), unit)
    return counted(float(round(seconds)), "second")


_ROLES = {"account_id": "account", "merchant_id": "merchant"}
_WINDOW_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week"}
_AMOUNTS = {
    "sum": "{whose} transactions{same} {when} total",
    "mean": "{whose} mean amount{same} {when} is",
    "max": "{whose} largest amount{same} {when} is",
    "min": "{whose} smallest amount{same} {when} is",
    "std": "{whose} amounts{same} {when} vary by",
}


def velocity_words(definitions: Iterable[Velocity]) -> dict[str, Words]:
    """Return the templates of every velocity feature by name."""
    return {
        definition.name(aggregate, window): _velocity_words(definition, aggregate, window)
        for definition in definitions
        for window in definition.windows
        for aggregate in definition.aggregates
    }


def duration_in_words(duration: str) -> str:
    """Format a duration in words.

    Example:
      >>> duration_in_words("1h"), duration_in_words("30d")
      ('1 hour', '30 days')
    """
    return counted(float(duration[:-1]), _WINDOW_UNITS[duration[-1]])


def _velocity_words(definition: Velocity, aggregate: str, window: str) -> Words:
    key = "the " + " and ".join(_ROLES.get(column, column) for column in definition.key)
    whose = f"{key}'s"
    if aggregate == "seconds_since_last":
        # It looks back as far as the longest window.
        window = max(definition.windows, key=microseconds)
    when = _when(window, definition)
    by_currency = definition.name(aggregate, window) in definition.amounts_by_currency
    same = " in this currency" if by_currency else ""
    match aggregate:
        case "count":
            return _count("transaction", f"{{}} of {key} {when}")
        case "distinct_merchant":
            return _count("merchant", f"{key} used {{}} {when}")
        case "risk":
            return _risk(definition.name("count", window), key, when)
        case "seconds_since_last":
            before = ""
            if definition.delay_microseconds:
                before = f" that is at least {duration_in_words(definition.delay)} old"
            last = f"since {whose} last transaction{before}"
            return Words(
                as_span,
                lambda _, short: f"{short} {last}",
                f"no earlier transaction of {key} {when}",
                compared_if_absent=False,
            )
        case "ratio":
            mean = f"{whose} mean amount{same} {when}"
            return Words(
                _times,
                lambda _, short: f"the amount is {short} {mean}",
                f"{mean} is not known, so there is nothing to compare the amount with",
                compared_if_absent=False,
            )
    what = _AMOUNTS[aggregate].format(whose=whose, same=same, when=when)
    few = "fewer than two transactions" if aggregate == "std" else "no transaction"
    return Words(
        as_money,
        lambda _, short: f"{what} {short}",
        f"{few} of {key}{same} {when}",
        compared_if_absent=False,
    )


def _when(window: str, definition: Velocity) -> str:
    """Return the period of a window's transactions in words.

    The period ends now, or before the delay, and has the length of the window.
    """
    delay = definition.delay
    if not definition.delay_microseconds:
        words = duration_in_words(window)
        return f"in the last {words.removeprefix('1 ')}"
    both = definition.delay_microseconds + microseconds(window)
    unit = microseconds(f"1{delay[-1]}")
    if both % unit:
        long = duration_in_words(window).removeprefix("1 ")
        return f"in the {long} that ended {duration_in_words(delay)} ago"
    return f"between {as_number(both / unit)} and {duration_in_words(delay)} ago"


def _count(what: str, template: str) -> Words:
    none = template.format(f"no {what}")
    return Words(
        as_number,
        lambda value, _: template.format(counted(value, what)) if value else none,
        none,
    )


def _risk(total: str, key: str, when: str) -> Words:
    def of_total(share: float, total: float) -> str:
        if total == 1:
            was = "was" if round(share) else "was not"
            return f"{key}'s only transaction {when} {was} fraud"
        frauds = as_number(float(round(share * total))) if share else "none"
        return f"{frauds} of {key}'s {as_number(total)} transactions {when} were fraud"

    return Words(
        as_percent,
        lambda _, short: f"{short} of {key}'s transactions {when} were fraud",
        f"no transaction of {key} {when}",
        compared_if_absent=False,
        total=total,
        of_total=of_total,
    )


def _times(ratio: float) -> str:
    return f"{as_number(ratio) if ratio >= 10 else f'{ratio:.1f}'} times"


_CALENDAR = {
    "is_night": ("by day", "at night"),
    "is_weekend": ("on a weekday", "at the weekend"),
}


class Wording:
    """Describe values of a model's features in words.

    Example:
      >>> import numpy as np
      >>> from beam_fraud.schema.presets import HANDBOOK
      >>> features = FeatureSet(HANDBOOK)
      >>> wording = Wording(features, np.full(len(features.names), 1.0))
      >>> wording.text(features.names.index("account_count_1d"), 7.0)
      '7 transactions of the account in the last day, usually 1'
    """

    def __init__(self, features: FeatureSet, typical: Floats) -> None:
        """Prepare the templates of each feature.

        Args:
          features: the model's features.
          typical: float64[features], NaN where unknown.
        """
        self._made_of = features, typical
        velocity = velocity_words(features.velocity)
        self._words = [_words(name, features, velocity) for name in features.names]
        self._usual = [
            words.short(value) if words.compared and not math.isnan(value) else None
            for words, value in zip(self._words, typical.tolist(), strict=True)
        ]
        places = {name: place for place, name in enumerate(features.names)}
        #: int64[features]: feature that counts the total of a share; itself without one.
        self.totals: npt.NDArray[np.int64] = np.array(
            [places.get(words.total or "", at) for at, words in enumerate(self._words)], np.int64
        )

    def __reduce__(self) -> tuple[type[Wording], tuple[FeatureSet, Floats]]:
        """Let another process make it again: templates are functions of their own."""
        return Wording, self._made_of

    def text(
        self, feature: int, value: float, total: float = math.nan, *, lowers: bool = False
    ) -> str:
        """Return a value in words.

        Args:
          feature: its position.
          value: the model's input, NaN if absent.
          total: total of a share, the value of the feature `totals[feature]`; unused by other
            features.
          lowers: whether it lowered the score, which the text then says.
        """
        words, typical = self._words[feature], self._usual[feature]
        short = None if math.isnan(value) else words.short(value)
        sentence = words.absent if short is None else words.long(value, short)
        if words.of_total is not None and self.totals[feature] != feature and total >= 0:
            # A total of 0 has no share, nor a usual one.
            if not total:
                return words.absent
            sentence = words.of_total(value, total)
        if typical is not None and (short is not None or words.compared_if_absent):
            sentence = (
                f"{sentence}, as usual" if short == typical else f"{sentence}, usually {typical}"
            )
        return f"{sentence} (speaks against fraud)" if lowers else sentence


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
