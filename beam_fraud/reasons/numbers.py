"""Numbers as people read them."""

from __future__ import annotations

#: Units from the longest, with their seconds.
_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def as_money(value: float) -> str:
    """An amount with two decimals.

    Example:
      >>> as_money(2310)
      '2,310.00'
    """
    return f"{value:,.2f}"


def as_number(value: float) -> str:
    """Whole numbers whole, others with three digits that count.

    Example:
      >>> as_number(7.0), as_number(-8.1349), as_number(51234.5)
      ('7', '-8.13', '51,234')
    """
    if (value.is_integer() or abs(value) >= 1000) and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def as_percent(share: float) -> str:
    """A share in percent.

    Example:
      >>> as_percent(0.384), as_percent(0.004), as_percent(0.0)
      ('38 %', '0.4 %', '0 %')
    """
    return f"{share * 100:.0f} %" if share == 0 or share >= 0.01 else f"{share * 100:.2g} %"


def counted(number: float, what: str) -> str:
    """A number of things.

    Example:
      >>> counted(1.0, "merchant"), counted(3.0, "merchant")
      ('1 merchant', '3 merchants')
    """
    return f"{as_number(number)} {what}{'' if number == 1 else 's'}"


def as_span(seconds: float) -> str:
    """A length of time in the largest unit of which there are two.

    Example:
      >>> as_span(12 * 86_400), as_span(5_400), as_span(1)
      ('12 days', '90 minutes', '1 second')
    """
    for unit, length in _UNITS:
        if seconds >= 2 * length:
            return counted(float(round(seconds / length)), unit)
    return counted(float(round(seconds)), "second")
