"""Arrow columns as the lists that drivers of databases take."""

from __future__ import annotations

import pyarrow as pa


def values_of(column: pa.Array) -> list[object]:
    """As `to_pylist`, many times as fast; a number that is null becomes NaN."""
    values: list[object] = column.to_numpy(zero_copy_only=False).tolist()
    return values
