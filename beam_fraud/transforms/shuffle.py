"""Spill rows to files by key, and compute the velocity features of a part of the keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.features.velocity.columns import VelocityWalk, with_velocity
from beam_fraud.schema.event_time import event_micros
from beam_fraud.schema.velocity import Velocity
from beam_fraud.storage.spill import MOST_PARTS, SpilledPart, SpillWriter, read_spilled, split
from beam_fraud.transforms.order import in_order


def time_slices(
    spilled: Sequence[SpilledPart], rows: int, directory: Path, name: str
) -> list[SpilledPart]:
    """Rewrite rows into files of consecutive time slices, so that each fits memory.

    Reads the rows twice. Rows of equal time stay together.

    Args:
      spilled: files whose rows have `event_time`.
      rows: approximate rows per slice; more if there are over 256 times as many.
      directory: the directory of the slices.
      name: prefix of their file names.

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
    """Return the first time of each slice but the earliest."""
    total = sum(part.rows for part in spilled)
    # A sample suffices for the quantiles, and costs a byte where a row costs hundreds.
    step = max(rows // 1_000, 1)
    sampled = [event_micros(batch)[::step] for part in spilled for batch in read_spilled(part)]
    ordered = np.sort(np.concatenate(sampled))
    slices = min(-(-total // rows), MOST_PARTS)
    return np.unique(ordered[np.arange(1, slices) * len(ordered) // slices])


#: Maximum of rows of a part in memory. A larger part is processed in time slices.
MOST_ROWS = 1_000_000


def velocity_of_part(
    spilled: Sequence[SpilledPart],
    definitions: Sequence[Velocity],
    *,
    scratch: Path,
    block_rows: int,
    most_rows: int = MOST_ROWS,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a part with velocity features, in time order.

    Args:
      spilled: all files of the part: transactions with `order.ORDER`.
      definitions: velocity features of the part's key.
      scratch: a directory for the slices of a large part.
      block_rows: maximum of rows per batch.
      most_rows: maximum of rows in memory.

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
    # A quarter, because slices only approximate their size, and rows of equal time stay together.
    for part in time_slices(spilled, max(most_rows // 4, 1), scratch, name):
        for batch in _rows([part]).to_batches(max_chunksize=block_rows):
            yield walk.add(batch)
        Path(part.path).unlink()


def _rows(spilled: Sequence[SpilledPart]) -> pa.Table:
    batches = [batch for part in spilled for batch in read_spilled(part)]
    return in_order(pa.Table.from_batches(batches)).combine_chunks()
