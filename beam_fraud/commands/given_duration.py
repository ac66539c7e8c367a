"""A duration as an option gives it."""

from __future__ import annotations

from beam_fraud.duration import SECOND, microseconds
from beam_fraud.errors import UsageError


def given_duration(option: str, text: str) -> int:
    """`text`, such as `15m`, in microseconds.

    Raises:
      UsageError: it is no duration; the message names the option.
    """
    try:
        return microseconds(text)
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from None


def given_seconds(option: str, text: str) -> float:
    """The same in seconds."""
    return given_duration(option, text) / SECOND
