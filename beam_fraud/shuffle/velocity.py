"""Velocity features of a part that was spilled to files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from beam_fraud.features.velocity.columns import VelocityWalk, with_velocity
from beam_fraud.shuffle.order import in_order
from beam_fraud.shuffle.spill import SpilledPart, read_spilled
from beam_fraud.shuffle.time_slices import time_slices
from beam_fraud.velocity import Velocity

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
    """The rows of a part with velocity features, in the order of their times.

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
