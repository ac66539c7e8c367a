"""Where a transaction stood in all the files: what tells which of two of the same time is first."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.schema.event_time import event_micros

#: Column that rows carry with them while they are shuffled: int64.
ORDER = "@order"
#: Positions in a file take the lower bits: files have up to 10**12 rows.
_POSITION_BITS = 40


def order_of(file: int, positions: pa.Array) -> pa.Array:
    """The order of rows (int64[n]): by the number of their file, then by their position in it."""
    return pc.add(positions, pa.scalar(file << _POSITION_BITS, pa.int64()))


def file_of(order: pa.Array) -> npt.NDArray[np.int64]:
    """Return the number of the file that each row is from, int64[n]."""
    return np.asarray(order, dtype=np.int64) >> _POSITION_BITS


def in_order(rows: pa.Table) -> pa.Table:
    """Rows by event time, and by `ORDER` where times are the same."""
    times = event_micros(rows)
    order = np.asarray(rows.column(ORDER))
    later = (times[1:] > times[:-1]) | ((times[1:] == times[:-1]) & (order[1:] > order[:-1]))
    return rows if later.all() else rows.take(pa.array(np.lexsort((order, times))))
