"""Skew: how far two archives of the same transactions differ, column by column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Floats: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Kind: TypeAlias = Literal["feature", "score", "decision", "row"]
#: Of a row whose transaction the other archive lacks.
Alone: TypeAlias = Literal["only_in_first", "only_in_second"]
#: Figures of a condition.
FIGURES = (
    "pairs",
    "only_in_first",
    "only_in_second",
    "only_share",
    "rows_differ",
    "rows_differ_share",
    "features_differ",
    "scores_differ",
    "scores_differ_share",
    "largest_score_difference",
    "decisions_differ",
)


@dataclass(frozen=True)
class ColumnSkew:
    """How often and how far a column differs between the rows of two archives."""

    #: Name of the feature or the column.
    name: str
    kind: Kind
    #: Pairs of rows of which both have the column.
    compared: int
    #: Those whose values differ, and their share.
    differ: int
    share: float
    #: Of these, pairs of which only the second or only the first row has a value.
    missing_in_first: int
    missing_in_second: int
    #: Mean and largest absolute difference of the pairs that differ, and the values of the largest;
    #: None without numbers.
    mean: float | None
    largest: float | None
    first: float | None
    second: float | None


@dataclass(frozen=True)
class SkewDay:
    """The transactions of a day, UTC."""

    day: str
    #: Transactions in both archives, those whose rows differ, and those in one archive alone.
    pairs: int
    differ: int
    only_in_first: int
    only_in_second: int


@dataclass(frozen=True)
class Skew:
    """Everything that `skew` says, JSON-compatible."""

    #: The archives.
    first: str
    second: str
    #: Rows of each that were compared, or looked for in the other.
    rows_first: int
    rows_second: int
    #: Rows whose transaction the archive has already, left out.
    repeated: int
    #: Rows outside the time that both archives have, left out; and that time, ISO 8601.
    outside: int
    since: str | None
    until: str | None
    #: Transactions in both, and in one alone.
    pairs: int
    only_in_first: int
    only_in_second: int
    #: Pairs with any difference.
    rows_differ: int
    #: Pairs that different models decided: their scores and decisions are not compared.
    other_models: int
    #: Pairs of which a row keeps no features.
    without_features: int
    #: Features that only one archive has.
    features_of_first: tuple[str, ...]
    features_of_second: tuple[str, ...]
    #: Differences up to this, times the larger value where that is above one, do not count.
    tolerance: float
    #: The most frequently differing first.
    columns: tuple[ColumnSkew, ...]
    days: tuple[SkewDay, ...]

    def figures(self) -> dict[str, float | None]:
        """Return the values of `FIGURES`; None where nothing was compared."""
        by_kind = {column.kind: column for column in self.columns}
        score, decision = by_kind.get("score"), by_kind.get("decision")
        alone = self.only_in_first + self.only_in_second
        scored = score is not None and score.compared > 0
        return {
            "pairs": self.pairs,
            "only_in_first": self.only_in_first,
            "only_in_second": self.only_in_second,
            "only_share": alone / (alone + self.pairs) if alone + self.pairs else None,
            "rows_differ": self.rows_differ,
            "rows_differ_share": self.rows_differ / self.pairs if self.pairs else None,
            "features_differ": sum(c.differ > 0 for c in self.columns if c.kind == "feature"),
            "scores_differ": score.differ if score is not None and scored else None,
            "scores_differ_share": score.share if score is not None and scored else None,
            "largest_score_difference": (score.largest or 0.0) if score and scored else None,
            "decisions_differ": decision.differ if decision and decision.compared else None,
        }


@dataclass(frozen=True)
class Compared:
    """A column of n pairs of rows."""

    name: str
    kind: Kind
    #: bool[n]: pairs of which both rows have the column.
    both: Mask
    #: bool[n]: pairs that differ.
    differ: Mask
    #: float64[n] each, NaN for missing values; None of text.
    numbers: tuple[Floats, Floats] | None


def compared_numbers(
    name: str, kind: Kind, first: Floats, second: Floats, both: Mask, tolerance: float
) -> Compared:
    """Compare n pairs of numbers.

    A missing value (NaN) equals another missing value alone. Numbers differ if they are further
    apart than `tolerance`, times the larger of them where that is above one.

    Args:
      name: of the column.
      kind: of the column.
      first: float64[n].
      second: float64[n].
      both: bool[n]: whether both rows have the column.
      tolerance: 0 for equal values alone.

    Example:
      >>> one, other = np.array([1.0, np.nan, 200.0]), np.array([1.5, np.nan, 200.1])
      >>> compared_numbers("x", "feature", one, other, one == one, 1e-3).differ.tolist()
      [True, False, False]
    """
    absent, other_absent = np.isnan(first), np.isnan(second)
    with np.errstate(invalid="ignore"):
        gap = np.abs(first - second)
        allowed = tolerance * np.maximum(1.0, np.maximum(np.abs(first), np.abs(second)))
        # Infinities of one sign are equal, and their gap is not a number.
        differ = (first != second) & ~(gap <= allowed)
    differ &= ~(absent & other_absent)
    return Compared(name, kind, both, differ & both, (first, second))


def compared_texts(
    name: str, kind: Kind, first: pa.Array, second: pa.Array, both: Mask
) -> Compared:
    """Compare n pairs of values of any type; nulls are equal."""
    equal = pc.fill_null(pc.equal(first, second), False)
    nulls = pc.and_(pc.is_null(first), pc.is_null(second))
    differ = ~np.asarray(pc.or_(equal, nulls), dtype=np.bool_)
    return Compared(name, kind, both, differ & both, None)


@dataclass
class _ColumnTally:
    kind: Kind
    compared: int = 0
    differ: int = 0
    missing_in_first: int = 0
    missing_in_second: int = 0
    known: int = 0
    sum: float = 0.0
    largest: float | None = None
    first: float | None = None
    second: float | None = None

    def add(self, column: Compared) -> None:
        self.compared += int(column.both.sum())
        places = np.flatnonzero(column.differ)
        self.differ += len(places)
        if column.numbers is None or not len(places):
            return
        first, second = (values[places] for values in column.numbers)
        self.missing_in_first += int(np.isnan(first).sum())
        self.missing_in_second += int(np.isnan(second).sum())
        with np.errstate(invalid="ignore"):
            gaps = np.abs(first - second)
        known = ~np.isnan(gaps)
        if not known.any():
            return
        self.known += int(known.sum())
        self.sum += float(gaps[known].sum())
        at = int(np.nanargmax(gaps))
        if self.largest is None or gaps[at] > self.largest:
            self.largest = float(gaps[at])
            self.first, self.second = float(first[at]), float(second[at])

    def skew(self, name: str) -> ColumnSkew:
        return ColumnSkew(
            name,
            self.kind,
            self.compared,
            self.differ,
            self.differ / self.compared if self.compared else 0.0,
            self.missing_in_first,
            self.missing_in_second,
            self.sum / self.known if self.known else None,
            self.largest,
            self.first,
            self.second,
        )


@dataclass
class SkewTally:
    """Counts pairs and single rows, block by block; their order changes no count."""

    pairs: int = 0
    rows_differ: int = 0
    only_in_first: int = 0
    only_in_second: int = 0
    other_models: int = 0
    without_features: int = 0
    _columns: dict[tuple[str, Kind], _ColumnTally] = field(default_factory=dict)
    _days: dict[int, Counter[str]] = field(default_factory=dict)

    def add_pairs(self, days: npt.NDArray[np.int64], columns: Sequence[Compared]) -> None:
        """Count n pairs.

        Args:
          days: int64[n], days since 1970.
          columns: the compared columns, n pairs each.
        """
        any_differs = np.zeros(len(days), np.bool_)
        for column in columns:
            key = (column.name, column.kind)
            tally = self._columns.setdefault(key, _ColumnTally(column.kind))
            tally.add(column)
            any_differs |= column.differ
        self.pairs += len(days)
        self.rows_differ += int(any_differs.sum())
        self._by_day("pairs", days)
        self._by_day("differ", days[any_differs])

    def add_single(self, side: Alone, days: npt.NDArray[np.int64]) -> None:
        """Count rows whose transaction the other archive lacks."""
        if side == "only_in_first":
            self.only_in_first += len(days)
        else:
            self.only_in_second += len(days)
        self._by_day(side, days)

    def _by_day(self, what: str, days: npt.NDArray[np.int64]) -> None:
        for day, count in zip(*np.unique(days, return_counts=True), strict=True):
            self._days.setdefault(int(day), Counter())[what] += int(count)

    @property
    def columns(self) -> tuple[ColumnSkew, ...]:
        """The columns, the most frequently differing first."""
        found = [tally.skew(name) for (name, _), tally in self._columns.items()]
        return tuple(sorted(found, key=lambda one: (-one.differ, one.name, one.kind)))

    @property
    def days(self) -> tuple[SkewDay, ...]:
        """The days in order."""
        return tuple(
            SkewDay(
                str(np.datetime64(day, "D")),
                counted["pairs"],
                counted["differ"],
                counted["only_in_first"],
                counted["only_in_second"],
            )
            for day, counted in sorted(self._days.items())
        )
