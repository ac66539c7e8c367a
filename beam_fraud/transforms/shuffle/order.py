"""The order of transactions over all files, which breaks ties of event times."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.schema.event_time import event_micros

#: Column of the order in shuffled rows: int64.
ORDER = "@order"
#: The lower bits hold the position in a file: files have up to 10**12 rows.
_POSITION_BITS = 40


def order_of(file: int, positions: pa.Array) -> pa.Array:
    """Return the order of rows (int64[n]): by file number, then by position."""
    return pc.add(positions, pa.scalar(file << _POSITION_BITS, pa.int64()))


def file_of(order: pa.Array) -> npt.NDArray[np.int64]:
    """Return the file number of each row, int64[n]."""
    return np.asarray(order, dtype=np.int64) >> _POSITION_BITS


def in_order(rows: pa.Table) -> pa.Table:
    """Sort rows by event time, then by `ORDER`."""
    times = event_micros(rows)
    order = np.asarray(rows.column(ORDER))
    later = (times[1:] > times[:-1]) | ((times[1:] == times[:-1]) & (order[1:] > order[:-1]))
    return rows if later.all() else rows.take(pa.array(np.lexsort((order, times))))
