"""Rows and frauds by hour, weekday and date."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from beam_fraud.evaluation.explore.rates import Rate, rates
from beam_fraud.evaluation.explore.rows import Rows, Whole
from beam_fraud.schema.duration import DAY, HOUR

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
#: 1970-01-01 was a Thursday.
_FIRST_WEEKDAY = 3
#: Maximum of days; more are grouped by month.
_MOST_DAYS = 731


@dataclass(frozen=True)
class OverTime:
    """Rates by local time in the schema's time zone."""

    #: Time zone.
    timezone: str
    #: Rates of the hours `00` to `23`.
    hours: tuple[Rate, ...]
    #: Rates of the weekdays, from Monday.
    weekdays: tuple[Rate, ...]
    #: Rates of days or months with rows, in order: `2018-04-01`, or `2018-04`.
    calendar: tuple[Rate, ...]
    #: Unit of `calendar`: months if there are more than two years of days.
    period: Literal["day", "month"]


def over_time(rows: Rows) -> OverTime:
    """Count n > 0 rows by hour, weekday and day."""
    local = rows.local_micros()
    days = local // DAY
    hours = local // HOUR % 24
    calendar, period = _calendar(days, rows)
    return OverTime(
        rows.features.schema.timezone,
        rates([f"{hour:02}" for hour in range(24)], hours, rows),
        rates(WEEKDAYS, (days + _FIRST_WEEKDAY) % 7, rows),
        calendar,
        period,
    )


def _calendar(days: Whole, rows: Rows) -> tuple[tuple[Rate, ...], Literal["day", "month"]]:
    # Local time may repeat an hour when clocks are set back.
    found, codes = np.unique(days, return_inverse=True)
    dates = found.astype("datetime64[D]")
    if len(found) <= _MOST_DAYS:
        return rates([str(date) for date in dates], codes, rows), "day"
    months, of_day = np.unique(dates.astype("datetime64[M]"), return_inverse=True)
    return rates([str(month) for month in months], of_day[codes], rows), "month"
