"""Mergeable summaries: how many rows of each day and segment fall into each bin of a measure.

The bins are fixed before the first row is counted: those of the model's reference, or powers of
two. So a summary is a table of counts, and merging is addition. Figures of fixed bins have no error
of a sketch, and neither the order nor the number of merges changes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Counts: TypeAlias = npt.NDArray[np.int64]
#: Edges up to which values are compared with each of them.
_COMPARED = 64
#: Edges of whole numbers, such as hours.
_WHOLE = tuple(float(number) for number in range(_COMPARED))
#: Name of the group of all rows.
ALL = ""
#: Bins of numbers without a reference: up to 2^-10, 2^-9, ... 2^20, and the same below zero.
OCTAVES = tuple(
    [-(2.0**power) for power in range(20, -11, -1)] + [0.0] + [2.0**p for p in range(-10, 21)]
)


@dataclass(frozen=True)
class Measure:
    """A value of each row, and the bins that divide its values.

    Numbers have a bin up to each edge and one above the last, categories one each and one for
    unknown values. The last bin of both is for missing values.
    """

    #: Its name, such as that of a feature.
    name: str
    #: Whether `edges` or `categories` define the bins.
    kind: Literal["numeric", "categorical"]
    #: Increasing upper bounds of bins.
    edges: tuple[float, ...] = ()
    #: Known values.
    categories: tuple[str, ...] = ()

    @property
    def bins(self) -> int:
        """Number of bins, without that of missing values."""
        return len(self.edges if self.kind == "numeric" else self.categories) + 1

    @property
    def width(self) -> int:
        """Number of bins."""
        return self.bins + 1

    def places(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
        """Return the bin of each value, intp[n].

        Args:
          values: float64[n], numbers, or codes of the categories; NaN for missing ones.
        """
        absent = np.isnan(values)
        if self.kind == "numeric":
            places = _places_between(self.edges, values)
        else:
            known = np.where(absent, 0, values).astype(np.intp)
            places = np.where((known < 0) | (known >= self.bins), self.bins - 1, known)
        if absent.any():
            places[absent] = self.bins
        return places


def _places_between(
    edges: Sequence[float], values: npt.NDArray[np.float64]
) -> npt.NDArray[np.intp]:
    """Return how many edges are below each value; any number for NaN."""
    if len(edges) > _COMPARED:
        return np.searchsorted(np.asarray(edges, np.float64), values, side="left")
    if edges == _WHOLE[: len(edges)]:
        # Rounded up, a number is how many of 0, 1, 2, .. are below it.
        with np.errstate(invalid="ignore"):
            return np.clip(np.ceil(values), 0, len(edges)).astype(np.intp)
    # A comparison of all values takes a hundredth of the time of their searches.
    below = np.zeros(len(values), np.uint8)
    for edge in edges:
        below += values > edge
    return below.astype(np.intp)


@dataclass(frozen=True)
class Segments:
    """A column by whose values the rows are divided, into these and all others."""

    #: Name of the column.
    column: str
    #: Values with a group of their own.
    values: tuple[str, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, `column=value`, then of all other rows."""
        return (*(f"{self.column}={value}" for value in self.values), f"{self.column}: others")


@dataclass(frozen=True)
class Layout:
    """Measures and segments that a summary counts."""

    measures: tuple[Measure, ...]
    segments: tuple[Segments, ...] = ()
    #: How many rows a row of the first group stands for at most, where it is estimated.
    stands_for: float = 1.0

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """All rows, then the groups of each column."""
        return (ALL, *(name for one in self.segments for name in one.groups))

    @cached_property
    def width(self) -> int:
        """Bins of all measures."""
        return sum(measure.width for measure in self.measures)

    @cached_property
    def spans(self) -> Mapping[str, slice]:
        """Name of a measure to its bins."""
        ends = np.cumsum([0, *(measure.width for measure in self.measures)]).tolist()
        return {
            measure.name: slice(start, end)
            for measure, start, end in zip(self.measures, ends, ends[1:], strict=False)
        }

    def measure(self, name: str) -> Measure | None:
        """Return a measure, or None."""
        return next((one for one in self.measures if one.name == name), None)


@dataclass(frozen=True)
class Summary:
    """Counts of rows by day, group and bin."""

    layout: Layout
    #: int64[d], days since 1970, increasing.
    days: Counts
    #: int64[d, groups, bins of all measures].
    counts: Counts

    @classmethod
    def empty(cls, layout: Layout) -> Summary:
        """Return the summary of no rows."""
        shape = (0, len(layout.groups), layout.width)
        return cls(layout, np.zeros(0, np.int64), np.zeros(shape, np.int64))

    @classmethod
    def of_rows(
        cls,
        layout: Layout,
        days: Counts,
        places: Mapping[str, npt.NDArray[np.intp]],
        groups: Sequence[npt.NDArray[np.intp]] = (),
    ) -> Summary:
        """Count n rows.

        Args:
          layout: what to count.
          days: int64[n], days since 1970.
          places: name of a measure to the bin of each row, intp[n]; of others nothing is counted.
          groups: for each of `layout.segments` the group of each row, from 0, intp[n].
        """
        if not len(days):
            return cls.empty(layout)
        # A sort of all rows would take longer than counting one of their measures.
        offsets = days - days.min()
        there = np.bincount(offsets) > 0
        distinct = np.flatnonzero(there).astype(np.int64) + days.min()
        day = (np.cumsum(there) - 1)[offsets]
        counts = np.zeros((len(distinct), len(layout.groups), layout.width), np.int64)
        #: Number of bins to the first cell of each row's day: many measures have equally many.
        starts: dict[int, Counts] = {}
        for name, place in places.items():
            span = layout.spans[name]
            width, first = span.stop - span.start, 1
            if width not in starts:
                starts[width] = day * width
            cell = starts[width] + place
            for segments, group in zip(layout.segments, groups, strict=True):
                size = len(segments.groups)
                cells = len(distinct) * width
                counted = np.bincount(group * cells + cell, minlength=size * cells)
                by_day = counted.reshape(size, len(distinct), width).transpose(1, 0, 2)
                counts[:, first : first + size, span] = by_day
                first += size
            counted = np.bincount(cell, minlength=len(distinct) * width)
            counts[:, 0, span] = counted.reshape(len(distinct), width)
        return cls(layout, distinct, counts)

    @classmethod
    def merged(cls, layout: Layout, summaries: Iterable[Summary]) -> Summary:
        """Return the summary of the rows of all summaries, in any order.

        Args:
          layout: theirs.
          summaries: summaries of the same layout.

        Raises:
          ValueError: one has another layout.
        """
        parts = list(summaries)
        if any(part.layout != layout for part in parts):
            raise ValueError("summaries of different layouts")
        if len(parts) == 1:
            return parts[0]
        days = np.unique(np.concatenate([np.zeros(0, np.int64), *(part.days for part in parts)]))
        counts = np.zeros((len(days), len(layout.groups), layout.width), np.int64)
        for part in parts:
            counts[np.searchsorted(days, part.days)] += part.counts
        return cls(layout, days, counts)

    def within(self, layout: Layout) -> Summary:
        """Return the counts by another layout: 0 for measures and groups that this one lacks."""
        if layout == self.layout:
            return self
        counts = np.zeros((len(self.days), len(layout.groups), layout.width), np.int64)
        for segments in (None, *layout.segments):
            if segments is not None and segments not in self.layout.segments:
                continue
            for name in (ALL,) if segments is None else segments.groups:
                new, old = layout.groups.index(name), self.layout.groups.index(name)
                for measure in layout.measures:
                    if measure in self.layout.measures:
                        counts[:, new, layout.spans[measure.name]] = self.of(measure.name, old)
        return Summary(layout, self.days, counts)

    @property
    def memory(self) -> int:
        """Bytes of the counts."""
        return int(self.days.nbytes + self.counts.nbytes)

    def of(self, measure: str, group: int = 0) -> Counts:
        """Return the counts of a measure by day, int64[d, its bins]."""
        counts: Counts = self.counts[:, group, self.layout.spans[measure]]
        return counts

    def every_day(self) -> Summary:
        """Return the summary with the days between the first and the last that have no rows."""
        if not len(self.days):
            return self
        days = np.arange(self.days[0], self.days[-1] + 1)
        counts = np.zeros((len(days), *self.counts.shape[1:]), np.int64)
        counts[self.days - days[0]] = self.counts
        return Summary(self.layout, days, counts)
