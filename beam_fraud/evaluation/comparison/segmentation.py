"""Segments of rows that are read block by block: codes at first, names at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa

from beam_fraud.errors import Code, UsageError
from beam_fraud.evaluation.rows import Floats, Ints
from beam_fraud.evaluation.segments import AMOUNT_SHARES, band_names, grouped_values


class Segmenter(Protocol):
    """A segmentation of rows."""

    #: Its name.
    name: str

    def codes(self, rows: pa.Table, amounts: Floats, clock: Ints) -> Ints:
        """Return int64[n]: a code for each row, the same in every block."""

    def groups(self, rows: Ints, frauds: Ints) -> tuple[tuple[str, ...], Ints]:
        """Return the names of the segments to show, and the segment of each code.

        Args:
          rows: int64[codes]: rows of each code.
          frauds: int64[codes]: frauds of each code.
        """


#: Edges of the finest bands of amounts: 1, 2 and 5 times powers of ten from 0.01 on.
_EDGES = np.array([step * 10.0**power for power in range(-2, 10) for step in (1, 2, 5)])


@dataclass
class AmountBands:
    """Bands of amounts with round edges."""

    name: str = "amount"

    def codes(self, rows: pa.Table, amounts: Floats, clock: Ints) -> Ints:
        """Return the finest band of each row."""
        return np.searchsorted(_EDGES, amounts, side="right").astype(np.int64)

    def groups(self, rows: Ints, frauds: Ints) -> tuple[tuple[str, ...], Ints]:
        """Join bands: edges are near quantiles of the amounts."""
        shares = np.cumsum(rows) / max(rows.sum(), 1)
        # Code i ends at edge i.
        ends = np.unique(np.searchsorted(shares, AMOUNT_SHARES))
        ends = ends[ends < min(len(_EDGES), len(rows) - 1)]
        if not len(ends):
            return ("all",), np.zeros(len(rows), dtype=np.int64)
        return band_names(_EDGES[ends]), np.searchsorted(ends, np.arange(len(rows)), side="left")


@dataclass
class Months:
    """Months of the year, by the clocks of the time zone."""

    name: str = "month"
    _known: dict[int, int] = field(default_factory=dict)

    def codes(self, rows: pa.Table, amounts: Floats, clock: Ints) -> Ints:
        """Return the month of each row."""
        months = clock.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)
        distinct, places = np.unique(months, return_inverse=True)
        for month in distinct.tolist():
            self._known.setdefault(month, len(self._known))
        return np.array([self._known[month] for month in distinct.tolist()], np.int64)[places]

    def groups(self, rows: Ints, frauds: Ints) -> tuple[tuple[str, ...], Ints]:
        """Return months in order."""
        months = np.array(list(self._known), dtype=np.int64)
        order = np.argsort(months)
        places = np.empty(len(months), dtype=np.int64)
        places[order] = np.arange(len(months))
        return tuple(str(np.datetime64(int(m), "M")) for m in months[order]), places


@dataclass
class Values:
    """The values of a column: those with most frauds, then most rows, and the others together."""

    name: str
    _known: dict[str | None, int] = field(default_factory=dict)

    def codes(self, rows: pa.Table, amounts: Floats, clock: Ints) -> Ints:
        """Return the value of each row."""
        if self.name not in rows.column_names:
            raise UsageError(
                f"--segment {self.name}: the scored rows have no such column; "
                f"they have {', '.join(rows.column_names)}",
                Code.OPTION_VALUE,
            )
        column = rows.column(self.name).cast(pa.string()).combine_chunks()
        encoded = column.dictionary_encode()
        values: list[str | None] = [*encoded.dictionary.to_pylist(), None]
        indices = np.asarray(encoded.indices.fill_null(len(values) - 1), dtype=np.int64)
        if not column.null_count:
            values.pop()
        codes = [self._known.setdefault(value, len(self._known)) for value in values]
        return np.array(codes, dtype=np.int64)[indices]

    def groups(self, rows: Ints, frauds: Ints) -> tuple[tuple[str, ...], Ints]:
        """Return the values to show."""
        return grouped_values(list(self._known), rows, frauds)


def segmenters_of(columns: Sequence[str]) -> tuple[Segmenter, ...]:
    """Return segmentations by amount, month and values of columns."""
    return (AmountBands(), Months(), *(Values(column) for column in dict.fromkeys(columns)))
