"""Velocity features in plain words, by their definitions."""

from __future__ import annotations

from collections.abc import Iterable

from beam_fraud.duration import microseconds
from beam_fraud.reasons.numbers import as_money, as_number, as_percent, as_span, counted
from beam_fraud.reasons.words import Words
from beam_fraud.velocity import Velocity

_ROLES = {"account_id": "account", "merchant_id": "merchant"}
_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week"}
_AMOUNTS = {
    "sum": "the {key}'s transactions {when} total",
    "mean": "mean amount of the {key} {when}",
    "max": "largest amount of the {key} {when}",
    "min": "smallest amount of the {key} {when}",
    "std": "amounts of the {key} {when} vary by",
}


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
    return counted(float(duration[:-1]), _UNITS[duration[-1]])


def _words(definition: Velocity, aggregate: str, window: str) -> Words:
    key = " and ".join(_ROLES.get(column, column) for column in definition.key)
    before = ""
    if definition.delay_microseconds:
        before = f" until {duration_in_words(definition.delay)} ago"
    if aggregate == "seconds_since_last":
        # It looks as far back as the longest window does.
        window = max(definition.windows, key=microseconds)
    when = f"in {duration_in_words(window)}{before}"
    match aggregate:
        case "count":
            return _counted("transaction", f"of the {key} {when}")
        case "distinct_merchant":
            return _counted("merchant", f"of the {key} {when}")
        case "risk":
            whose = f"of the {key}'s transactions {when} were fraud"
            return Words(as_percent, lambda _, short: f"{short} {whose}", f"no share {whose}")
        case "seconds_since_last":
            last = f"since the {key}'s last transaction{before}"
            first = f"first transaction of the {key} {when}"
            return Words(as_span, lambda _, short: f"{short} {last}", first)
        case "ratio":
            mean = f"the {key}'s mean {when}"
            none = f"nothing to compare the amount with: {mean}"
            return Words(_times, lambda _, short: f"amount {short} {mean}", none)
    what = _AMOUNTS[aggregate].format(key=key, when=when)
    few = "fewer than two transactions" if aggregate == "std" else "no transaction"
    return Words(as_money, lambda _, short: f"{what} {short}", f"{few} of the {key} {when}")


def _counted(what: str, whose: str) -> Words:
    return Words(
        as_number,
        lambda value, short: f"{short} {what}{'' if value == 1 else 's'} {whose}",
        f"no {what} {whose}",
    )


def _times(ratio: float) -> str:
    return f"{as_number(ratio)} times"
