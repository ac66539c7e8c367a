"""Durations: `15m`, `1h`, `7d`."""

from __future__ import annotations

import re

from beam_fraud.errors import Code, UsageError

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
_UNITS = {"s": SECOND, "m": 60 * SECOND, "h": HOUR, "d": DAY}
_UNITS["w"] = 7 * _UNITS["d"]
_WRITTEN = re.compile(r"(0|[1-9][0-9]*)([smhdw])", re.ASCII)
#: A hundred years: sums of times and durations stay far within int64.
LONGEST = 36_500 * _UNITS["d"]


def microseconds(text: str) -> int:
    """Parse a duration.

    Args:
      text: a whole number without leading zeros and one of s, m, h, d, w.

    Returns:
      Microseconds, at most `LONGEST`.

    Raises:
      UsageError: it has another form, or is too long.

    Example:
      >>> microseconds("15m")
      900000000
      >>> microseconds("0d")
      0
    """
    written = _WRITTEN.fullmatch(text)
    if written is None:
        raise UsageError(
            f"{text!r} is not a duration (as in 30s, 15m, 1h, 7d, 2w)", Code.TIME_INVALID
        )
    # int() raises on a very long text.
    length = int(written[1]) * _UNITS[written[2]] if len(written[1]) < 18 else LONGEST + 1
    if length > LONGEST:
        raise UsageError(f"{text!r} is longer than 100 years", Code.TIME_INVALID)
    return length
