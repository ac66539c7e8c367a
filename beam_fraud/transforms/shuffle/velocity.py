"""Velocity features of a part that was spilled to files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.features.velocity.columns import VelocityWalk, with_velocity
from beam_fraud.schema.event_time import event_micros
from beam_fraud.schema.velocity import Velocity
from beam_fraud.transforms.shuffle.order import in_order
from beam_fraud.transforms.shuffle.spill import (
    MOST_PARTS,
    SpilledPart,
    SpillWriter,
    read_spilled,
    split,
)


def time_slices(
    spilled: Sequence[SpilledPart], rows: int, directory: Path, name: str
) -> list[SpilledPart]:
    """Rewrite rows into files of which each is of later event times than the one before.

    Reads the rows twice. Rows of one moment stay together.

    Args:
      spilled: files whose rows have `event_time`.
      rows: about how many rows a slice should have; more if they are over 256 times as many.
      directory: where the slices are written.
      name: how their files' names start.

    Returns:
      The slices, the earliest first.

    Raises:
      OSError: a file cannot be read or written.
    """
    bounds = _bounds(spilled, rows)
    writer = SpillWriter(directory, name)
    for part in spilled:
        for batch in read_spilled(part):
            places = np.searchsorted(bounds, event_micros(batch), side="right")
            for number, inside in split(batch, places):
                writer.write(number, inside)
    return sorted(writer.close(), key=lambda written: written.part)


def _bounds(spilled: Sequence[SpilledPart], rows: int) -> npt.NDArray[np.int64]:
    """First times of all slices but the earliest."""
    total = sum(part.rows for part in spilled)
    # A sample tells the quantiles well enough, and costs a byte where a row costs hundreds.
    step = max(rows // 1_000, 1)
    sampled = [event_micros(batch)[::step] for part in spilled for batch in read_spilled(part)]
    ordered = np.sort(np.concatenate(sampled))
    slices = min(-(-total // rows), MOST_PARTS)
    return np.unique(ordered[np.arange(1, slices) * len(ordered) // slices])


#: Rows of a part that are looked at together. More are walked through in slices of time.
MOST_ROWS = 1_000_000


def velocity_of_part(
    spilled: Sequence[SpilledPart],
    definitions: Sequence[Velocity],
    *,
    scratch: Path,
    block_rows: int,
    most_rows: int = MOST_ROWS,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a part with velocity features, in the order of their times.

    Args:
      spilled: all files of the part: transactions with `shuffle.order.ORDER`.
      definitions: of the key that the part was made by.
      scratch: a directory for the slices of a large part.
      block_rows: rows of a batch at most.
      most_rows: rows that are looked at together.

    Yields:
      Batches of `block_rows` rows, the last of a slice smaller.

    Raises:
      OSError: a file cannot be read or written.
    """
    if sum(part.rows for part in spilled) <= most_rows:
        rows = with_velocity(_rows(spilled), definitions)
        yield from rows.to_batches(max_chunksize=block_rows)
        return
    walk = VelocityWalk(definitions)
    name = f"slice-{Path(spilled[0].path).stem}"
    # A quarter, as a slice is of about so many rows, and one moment's rows are not cut.
    for part in time_slices(spilled, max(most_rows // 4, 1), scratch, name):
        for batch in _rows([part]).to_batches(max_chunksize=block_rows):
            yield walk.add(batch)
        Path(part.path).unlink()


def _rows(spilled: Sequence[SpilledPart]) -> pa.Table:
    batches = [batch for part in spilled for batch in read_spilled(part)]
    return in_order(pa.Table.from_batches(batches)).combine_chunks()
