"""Velocity features in plain words, by their definitions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from beam_fraud.reasons.numbers import as_money, as_number, as_percent, as_span, counted
from beam_fraud.velocity import Velocity

#: A value to words: all of a reason, and what comes after "usually".
Words = tuple[Callable[[float], str], Callable[[float], str]]

_ROLES = {"account_id": "account", "merchant_id": "merchant"}
_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week"}


def velocity_words(definitions: Iterable[Velocity]) -> dict[str, Words]:
    """The words of every feature of the definitions, by its name."""
    return {
        definition.name(aggregate, window): _words(definition, aggregate, window)
        for definition in definitions
        for window in definition.windows
        for aggregate in definition.aggregates
    }


def duration_in_words(duration: str) -> str:
    """A duration as people say it.

    Example:
      >>> duration_in_words("1h"), duration_in_words("30d")
      ('1 hour', '30 days')
    """
    return counted(int(duration[:-1]), _UNITS[duration[-1]])


def _words(definition: Velocity, aggregate: str, window: str) -> Words:
    key = " and ".join(_ROLES.get(column, column) for column in definition.key)
    before = ""
    if definition.delay_microseconds:
        before = f" until {duration_in_words(definition.delay)} ago"
    when = f"in {duration_in_words(window)}{before}"
    if aggregate == "count":
        return lambda v: f"{counted(v, 'transaction')} of the {key} {when}", as_number
    if aggregate == "distinct_merchant":
        return lambda v: f"{counted(v, 'merchant')} of the {key} {when}", as_number
    if aggregate == "risk":
        return (
            lambda v: f"{as_percent(v)} of the {key}'s transactions {when} were fraud",
            as_percent,
        )
    if aggregate == "seconds_since_last":
        longest = max(definition.windows, key=lambda w: Velocity(("x",), (w,), ("count",)).horizon)
        none = f"first transaction of the {key} in {duration_in_words(longest)}{before}"
        last = f"since the {key}'s last transaction{before}"
        return lambda v: none if math.isnan(v) else f"{as_span(v)} {last}", as_span
    if aggregate == "ratio":
        mean = f"the {key}'s mean {when}"
        return (
            lambda v: (
                f"no amount to compare with {when}"
                if math.isnan(v)
                else f"amount {as_number(v)} times {mean}"
            ),
            lambda v: f"{as_number(v)} times",
        )
    return _of_amounts(aggregate, key, when)


_AMOUNTS = {
    "sum": "the {key}'s transactions {when} total",
    "mean": "mean amount of the {key} {when}",
    "max": "largest amount of the {key} {when}",
    "min": "smallest amount of the {key} {when}",
    "std": "amounts of the {key} {when} vary by",
}


def _of_amounts(aggregate: str, key: str, when: str) -> Words:
    what = _AMOUNTS[aggregate].format(key=key, when=when)
    few = "fewer than two transactions" if aggregate == "std" else "no transaction"
    none = f"{few} of the {key} {when}"
    return lambda v: none if math.isnan(v) else f"{what} {as_money(v)}", as_money
