"""Parse times and durations of options."""

from __future__ import annotations

from datetime import UTC, datetime

from beam_fraud.errors import Code, UsageError
from beam_fraud.schema.duration import DAY, SECOND, microseconds


def parse_duration(option: str, text: str) -> int:
    """Parse a duration, such as `15m`, to microseconds.

    Raises:
      UsageError: it is no duration; the message names the option.
    """
    try:
        return microseconds(text)
    except UsageError as error:
        raise UsageError(f"{option}: {error}", Code.TIME_INVALID) from None


def parse_seconds(option: str, text: str) -> float:
    """Return the same in seconds."""
    return parse_duration(option, text) / SECOND


def parse_moment(option: str, text: str | None) -> datetime | None:
    """Parse an ISO 8601 date or time; UTC without a zone; None stays None.

    Args:
      option: the name of the option, for the message.
      text: its value.

    Raises:
      UsageError: it is invalid.

    Example:
      >>> parse_moment("--from", "2013-09-02")
      datetime.datetime(2013, 9, 2, 0, 0, tzinfo=datetime.timezone.utc)
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option} {text}: not an ISO 8601 time (2013-09-02T16:20:49Z)", Code.TIME_INVALID
        ) from None


def false_alarm_rate(text: str) -> float:
    """Return the false alarms a day that `--false-alarms` accepts.

    Raises:
      UsageError: it is no number in a span.

    Example:
      >>> false_alarm_rate("3/60d")
      0.05
    """
    count, _, span = text.partition("/")
    try:
        number, days = float(count), microseconds(span) / DAY
        if not 0 < number <= 1_000 or days <= 0 or number / days > 0.5:
            raise ValueError(text)
    except (UsageError, ValueError):
        raise UsageError(
            f"--false-alarms {text}: must be a number in a span, at most one in two days, as in "
            "1/30d",
            Code.OPTION_VALUE,
        ) from None
    return number / days
