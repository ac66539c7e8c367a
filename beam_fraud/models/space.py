"""Search spaces of settings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Whole:
    """Whole numbers from `low` to `high`."""

    low: int
    high: int
    #: Whether the scale is logarithmic.
    log: bool = False


@dataclass(frozen=True)
class Real:
    """Numbers from `low` to `high`."""

    low: float
    high: float
    #: Whether the scale is logarithmic.
    log: bool = False


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[str | int | float | bool | None, ...]


#: Name of a setting to its search space.
Space = dict[str, Whole | Real | Choice]
