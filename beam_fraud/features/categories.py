"""Categorical values as numbers, by the category lists that the bundle keeps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


def categories_of(values: pa.Array | pa.ChunkedArray) -> tuple[str, ...]:
    """The distinct values of a string column in code-point order, absent ones left out."""
    return tuple(sorted(pc.unique(values.drop_null()).to_pylist()))


def code_categories(values: pa.Array, categories: Sequence[str]) -> npt.NDArray[np.float64]:
    """The position of each value in `categories`.

    Args:
      values: string[n].
      categories: the known values, at most 2**31.

    Returns:
      float64[n]: 0 .. k - 1 for known values, k for an unknown one, NaN for an absent one.
    """
    codes = pc.index_in(values, value_set=pa.array(categories, pa.string()), skip_nulls=True)
    coded = codes.cast(pa.float64()).fill_null(float(len(categories)))
    coded = pc.if_else(values.is_valid(), coded, pa.scalar(float("nan")))
    return np.asarray(coded.to_numpy(zero_copy_only=False), dtype=np.float64)
