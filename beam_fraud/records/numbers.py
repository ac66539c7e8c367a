"""Read columns of numbers, or of strings that spell them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from beam_fraud.records.text import as_utf8, flat, tolerant_cast
from beam_fraud.sources.columns import is_text
from beam_fraud.sources.csv_text import NULL_SPELLINGS

#: Pattern of all numbers that Arrow can read, and little else.
_PLAUSIBLE = r"^[+-]?[0-9.][0-9.eE+-]*$|^[+-]?(?i:inf|infinity|nan)$"


@dataclass(frozen=True)
class Numbers:
    """A column of numbers."""

    #: float64[n]; NaN where absent or unreadable.
    values: npt.NDArray[np.float64]
    #: bool[n]: where it is null.
    absent: npt.NDArray[np.bool_]
    #: bool[n]: where it is no number.
    unreadable: npt.NDArray[np.bool_]


def as_numbers(values: pa.Array) -> Numbers:
    """Read a column of numbers, or of strings that spell them.

    Args:
      values: integers, floats, decimals, booleans, strings or nulls [n].
    """
    values = flat(values)
    unreadable = np.zeros(len(values), dtype=bool)
    if is_text(values.type):
        values, unreadable = _spelled(values)
    elif pat.is_null(values.type) or pat.is_boolean(values.type):
        values = values.cast(pa.int8()).cast(pa.float64())
    elif not pat.is_float64(values.type):
        values = values.cast(pa.float64(), safe=False)
    absent = np.asarray(values.is_null().to_numpy(zero_copy_only=False), dtype=bool) & ~unreadable
    numbers = np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)
    return Numbers(numbers, absent, unreadable)


def _spelled(values: pa.Array) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    text, not_utf8 = as_utf8(values)
    text = pc.ascii_trim(text, " \t")
    absent = pc.is_in(text, value_set=pa.array(NULL_SPELLINGS))
    text = pc.if_else(absent, pa.scalar(None, pa.string()), text)
    numbers, failed = tolerant_cast(text, lambda part: part.cast(pa.float64()), _PLAUSIBLE)
    return numbers, failed | not_utf8
