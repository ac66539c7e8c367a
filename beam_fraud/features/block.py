"""The block of features that travels beside the rows it was computed of, as one column."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

#: Name of the column; none of a user's begins like it.
FEATURES: Final = "@features"


def append_block(batch: pa.RecordBatch, block: npt.NDArray[np.float64]) -> pa.RecordBatch:
    """The batch with `block` as its last column; nothing is copied.

    Args:
      batch: n rows.
      block: float64[n, features], C-contiguous.
    """
    values = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), block.shape[1])
    return batch.append_column(FEATURES, values)


def split_block(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, npt.NDArray[np.float64]]:
    """The inverse of `append_block`: the rows, and float64[n, features]."""
    column = batch.column(FEATURES)
    block = column.flatten().to_numpy(zero_copy_only=False)
    return batch.drop_columns([FEATURES]), block.reshape(len(batch), column.type.list_size)
