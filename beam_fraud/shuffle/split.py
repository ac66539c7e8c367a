"""A record batch to its parts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

#: Parts are numbered in a byte, which NumPy sorts in linear time.
MOST_PARTS = 256


def split(
    batch: pa.RecordBatch, part: npt.NDArray[np.integer]
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of each part, in the order in which they are in the batch.

    Args:
      batch: n rows.
      part: integers[n] from 0 to 255: the part that each row belongs to.

    Yields:
      The number of a part and its rows, for each part that has any.

    Example:
      >>> batch = pa.record_batch({"x": [1, 2, 3]})
      >>> [(part, rows["x"].to_pylist()) for part, rows in split(batch, np.array([7, 0, 7]))]
      [(0, [2]), (7, [1, 3])]
    """
    numbers = part.astype(np.uint8)
    order = np.argsort(numbers, kind="stable")
    ordered = batch.take(pa.array(order))
    ends = np.cumsum(np.bincount(numbers, minlength=1))
    start = 0
    for number, end in enumerate(ends.tolist()):
        if end > start:
            yield number, ordered.slice(start, end - start)
        start = end
