"""The needs of a set of velocity definitions, computed once for all batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beam_fraud.schema.velocity import Velocity

#: Ages in microseconds of a window's start and end.
Ages = tuple[int, int]


@dataclass(frozen=True)
class SpecPlan:
    """Needs of one definition."""

    #: The definition.
    spec: Velocity
    #: Ages of each window.
    windows: tuple[Ages, ...]
    #: Longest window plus delay, microseconds.
    horizon: int
    #: Name and aggregate of each window's features.
    features: tuple[tuple[tuple[str, str], ...], ...]
    #: int64[windows] each, positions of the windows' starts and ends in `WindowPlan.ages`.
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    #: The same of each window.
    spans: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, spec: Velocity, place: Mapping[int, int]) -> SpecPlan:
        """Plan a definition; `seconds_since_last`, which has no window, joins the first.

        Args:
          spec: the definition.
          place: position of each age in `WindowPlan.ages`.
        """
        windows = _windows_of(spec)
        spans = tuple((place[start], place[end]) for start, end in windows)
        starts, ends = np.array(spans).T
        return cls(
            spec,
            windows,
            spec.horizon,
            tuple(
                tuple(
                    (spec.name(aggregate, window), aggregate)
                    for aggregate in spec.aggregates
                    if aggregate != "seconds_since_last" or window == spec.windows[0]
                )
                for window in spec.windows
            ),
            starts.copy(),
            ends.copy(),
            spans,
        )


def _windows_of(spec: Velocity) -> tuple[Ages, ...]:
    delay = spec.delay_microseconds
    return tuple((delay + length, delay) for length in spec.window_microseconds)


@dataclass(frozen=True)
class WindowPlan:
    """Needs of all definitions of a key."""

    #: Plan of each definition.
    specs: tuple[SpecPlan, ...]
    #: int64[ages, 1], ascending: ages of windows' starts and ends, microseconds.
    ages: npt.NDArray[np.int64]
    #: Position of each age in `ages`.
    place: dict[int, int]
    #: Whether amounts are stored and summed.
    amounts: bool
    #: Whether their squares are.
    squares: bool
    #: Windows with smallest and largest amounts.
    extremes: tuple[Ages, ...]
    #: Look-back for the previous row, microseconds.
    last: tuple[int, ...]
    #: Longest windows with distinct merchants, per delay.
    merchants: tuple[Ages, ...]
    #: Shortest delay of counted frauds; None without them.
    fraud_delay: int | None

    @classmethod
    def of(cls, specs: Sequence[Velocity]) -> WindowPlan:
        """Plan definitions that share a key."""
        last = tuple({spec.horizon: None for spec in specs if spec.needs_last})
        ages = {age for spec in specs for window in _windows_of(spec) for age in window}
        ages |= {0, *last} if last else set()
        place = {age: place for place, age in enumerate(sorted(ages))}
        plans = tuple(SpecPlan.of(spec, place) for spec in specs)
        squares = any(spec.needs_squares for spec in specs)
        extremes = {
            window: None for plan in plans if plan.spec.needs_extremes for window in plan.windows
        }
        merchants = {
            (plan.horizon, plan.windows[0][1]): None for plan in plans if plan.spec.needs_merchants
        }
        delays = [spec.delay_microseconds for spec in specs if spec.needs_labels]
        return cls(
            plans,
            np.array(list(place), dtype=np.int64)[:, None],
            place,
            squares or bool(extremes) or any(spec.needs_sums for spec in specs),
            squares,
            tuple(extremes),
            last,
            tuple(merchants),
            min(delays) if delays else None,
        )

    @property
    def horizon(self) -> int:
        """Longest look-back of the features, microseconds."""
        return max(plan.horizon for plan in self.specs)
