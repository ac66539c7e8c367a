"""Columns of text, whatever Arrow type they come in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pat

from beam_fraud.records.tolerant_cast import tolerant_cast


def flat(values: pa.Array) -> pa.Array:
    """The values themselves, where a dictionary holds them."""
    return values.dictionary_decode() if pat.is_dictionary(values.type) else values


def as_utf8(values: pa.Array) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    """Strings or bytes as strings.

    Args:
      values: string, binary or null [n], also the large and view types.

    Returns:
      string[n], null where absent or not UTF-8, and bool[n]: where it was not UTF-8.
    """
    if pat.is_string(values.type) or pat.is_large_string(values.type):
        # Arrow does not check what a file claims to be UTF-8, and kernels may read past its end.
        values = values.cast(pa.binary())
    return tolerant_cast(values, lambda part: part.cast(pa.string()))
