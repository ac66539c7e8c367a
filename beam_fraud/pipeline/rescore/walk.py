"""Velocity features across partitions: rows of all of them in the order of their event times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.features.velocity.columns import VelocityWalk, by_key
from beam_fraud.schema.event_time import event_micros
from beam_fraud.schema.velocity import Velocity

#: int32: number of the partition of a row.
PARTITION = "@partition"
#: Rows that pass the windows together.
_BLOCK_ROWS = 50_000


class _Held(NamedTuple):
    """A batch that waits for older rows."""

    rows: pa.RecordBatch
    first: int
    last: int
    #: Whether its rows are in time order.
    sorted: bool


class TimeOrder:
    """Rows of partitions that may overlap in time, which leave in time order.

    Ties leave in the order in which they were added.
    """

    def __init__(self) -> None:
        self._held: list[_Held] = []

    @property
    def rows(self) -> int:
        """Number of rows that wait."""
        return sum(len(held.rows) for held in self._held)

    def add(self, rows: pa.RecordBatch, partition: int) -> None:
        """Add rows of a partition.

        Args:
          rows: n rows of `Schema.transactions`.
          partition: number of the partition.
        """
        if not len(rows):
            return
        times = event_micros(rows)
        numbers = pa.array(np.full(len(rows), partition, dtype=np.int32))
        numbered = rows.append_column(PARTITION, numbers)
        in_order = bool((times[1:] >= times[:-1]).all())
        self._held.append(_Held(numbered, int(times.min()), int(times.max()), in_order))

    def before(self, moment: int | None) -> Iterator[pa.RecordBatch]:
        """Remove and yield the rows before a time, in time order, in blocks of equal size.

        Args:
          moment: microseconds; None for all rows.
        """
        ready, waiting = [], []
        for held in self._held:
            if moment is None or held.last < moment:
                ready.append(held)
            elif held.first >= moment:
                waiting.append(held)
            else:
                early = event_micros(held.rows) < moment
                for part, to in ((early, ready), (~early, waiting)):
                    rows = held.rows.filter(pa.array(part))
                    times = event_micros(rows)
                    to.append(_Held(rows, int(times.min()), int(times.max()), held.sorted))
        self._held = waiting
        if not ready:
            return
        table = pa.Table.from_batches([held.rows for held in ready])
        if not _in_order(ready):
            order = np.argsort(event_micros(table), kind="stable")
            table = table.take(pa.array(order))
        for start in range(0, len(table), _BLOCK_ROWS):
            (block,) = table.slice(start, _BLOCK_ROWS).combine_chunks().to_batches()
            yield block


def _in_order(batches: Sequence[_Held]) -> bool:
    follows = all(b.first >= a.last for a, b in pairwise(batches))
    return follows and all(held.sorted for held in batches)


class Windows:
    """The windows of all keys; rows pass them in time order."""

    def __init__(self, definitions: Sequence[Velocity]) -> None:
        """Start empty."""
        self._walks = [VelocityWalk(same_key) for same_key in by_key(definitions).values()]

    def add(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return the next rows with a column for each feature."""
        for walk in self._walks:
            rows = walk.add(rows)
        return rows

    def fill(self, rows: pa.RecordBatch) -> None:
        """Add the next rows without computing their features."""
        for walk in self._walks:
            walk.fill(rows)


def by_partition(rows: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield the rows of each partition, in their order, without its number.

    Args:
      rows: n > 0 rows with `PARTITION`.
    """
    numbers: npt.NDArray[np.int32] = rows.column(PARTITION).to_numpy()
    rows = rows.drop_columns([PARTITION])
    if (numbers == numbers[0]).all():
        yield int(numbers[0]), rows
        return
    for number in np.unique(numbers).tolist():
        yield number, rows.filter(pa.array(numbers == number))
