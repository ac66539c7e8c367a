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
    "sum": "{whose} transactions {when} total",
    "mean": "{whose} mean amount {when} is",
    "max": "{whose} largest amount {when} is",
    "min": "{whose} smallest amount {when} is",
    "std": "{whose} amounts {when} vary by",
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
    key = "the " + " and ".join(_ROLES.get(column, column) for column in definition.key)
    whose = f"{key}'s"
    if aggregate == "seconds_since_last":
        # It looks as far back as the longest window does.
        window = max(definition.windows, key=microseconds)
    when = _when(window, definition)
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
            mean = f"{whose} mean amount {when}"
            return Words(
                _times,
                lambda _, short: f"the amount is {short} {mean}",
                f"{mean} is not known, so there is nothing to compare the amount with",
                compared_if_absent=False,
            )
    what = _AMOUNTS[aggregate].format(whose=whose, when=when)
    few = "fewer than two transactions" if aggregate == "std" else "no transaction"
    return Words(
        as_money,
        lambda _, short: f"{what} {short}",
        f"{few} of {key} {when}",
        compared_if_absent=False,
    )


def _when(window: str, definition: Velocity) -> str:
    """When the transactions of a window were.

    They end now, or so long ago as the delay says, and begin a window before that.
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


def _count(what: str, said: str) -> Words:
    none = said.format(f"no {what}")
    return Words(
        as_number,
        lambda value, _: said.format(counted(value, what)) if value else none,
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
