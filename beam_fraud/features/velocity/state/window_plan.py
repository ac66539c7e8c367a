"""What a set of velocity definitions asks for, worked out once for all batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beam_fraud.schema.velocity import Velocity

#: Ages in microseconds before now at which a window starts and ends.
Ages = tuple[int, int]


@dataclass(frozen=True)
class SpecPlan:
    """What one definition asks for."""

    #: The definition.
    spec: Velocity
    #: Of each window.
    windows: tuple[Ages, ...]
    #: Longest window and delay, microseconds.
    horizon: int
    #: Of each window: name and aggregate of its features.
    features: tuple[tuple[tuple[str, str], ...], ...]

    @classmethod
    def of(cls, spec: Velocity) -> SpecPlan:
        """Plan a definition; `seconds_since_last`, which has no window, goes with the first."""
        delay = spec.delay_microseconds
        return cls(
            spec,
            tuple((delay + length, delay) for length in spec.window_microseconds),
            spec.horizon,
            tuple(
                tuple(
                    (spec.name(aggregate, window), aggregate)
                    for aggregate in spec.aggregates
                    if aggregate != "seconds_since_last" or window == spec.windows[0]
                )
                for window in spec.windows
            ),
        )


@dataclass(frozen=True)
class WindowPlan:
    """What definitions that share a key ask for together."""

    #: One of each definition.
    specs: tuple[SpecPlan, ...]
    #: int64[ages, 1], ascending: how long before now windows start and end, microseconds.
    ages: npt.NDArray[np.int64]
    #: Place of each age in `ages`.
    place: dict[int, int]
    #: Whether amounts are kept and added up.
    amounts: bool
    #: Whether their squares are.
    squares: bool
    #: Windows whose smallest and largest amounts are looked for.
    extremes: tuple[Ages, ...]
    #: How far back the previous row is looked for, microseconds.
    last: tuple[int, ...]
    #: Longest windows in which merchants are told apart, of each delay.
    merchants: tuple[Ages, ...]
    #: The shortest delay after which frauds are counted; None: they are not.
    fraud_delay: int | None

    @classmethod
    def of(cls, specs: Sequence[Velocity]) -> WindowPlan:
        """Plan definitions that share a key."""
        plans = tuple(SpecPlan.of(spec) for spec in specs)
        last = tuple({plan.horizon: None for plan in plans if plan.spec.needs_last})
        ages = {age for plan in plans for window in plan.windows for age in window}
        ages |= {0, *last} if last else set()
        place = {age: place for place, age in enumerate(sorted(ages))}
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
        """How far back any of the features looks, microseconds."""
        return max(plan.horizon for plan in self.specs)
