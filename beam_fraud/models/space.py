"""Where tuning looks for a setting of a kind of model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Whole:
    """Whole numbers from `low` to `high`."""

    low: int
    high: int
    #: Whether doubling counts as a step, and not adding.
    log: bool = False


@dataclass(frozen=True)
class Real:
    """Numbers from `low` to `high`."""

    low: float
    high: float
    #: Whether doubling counts as a step, and not adding.
    log: bool = False


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[str | int | float | bool | None, ...]


#: Name of a setting to where it is looked for.
Space = dict[str, Whole | Real | Choice]
