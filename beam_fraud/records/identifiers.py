"""Read columns of ids and categories: UTF-8 strings, or integers in decimal form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.records.text import as_utf8, flat
from beam_fraud.sources.columns import is_text

#: Maximum bytes of an identifier.
MAX_BYTES = 256


@dataclass(frozen=True)
class Identifiers:
    """A column of identifiers."""

    #: string[n]; null where absent or unreadable.
    values: pa.StringArray
    #: bool[n]: where it is null or empty.
    absent: npt.NDArray[np.bool_]
    #: bool[n]: where it is not UTF-8 or has a NUL, which databases refuse.
    unreadable: npt.NDArray[np.bool_]
    #: bool[n]: where it exceeds `MAX_BYTES`.
    too_long: npt.NDArray[np.bool_]


def as_identifiers(values: pa.Array) -> Identifiers:
    """Read a column of identifiers.

    Args:
      values: strings, bytes, integers, booleans or nulls [n].
    """
    values = flat(values)
    unreadable = np.zeros(len(values), dtype=bool)
    if is_text(values.type):
        values, unreadable = as_utf8(values)
        with_nul = pc.match_substring(values, "\0").fill_null(False)
        if pc.any(with_nul).as_py():
            unreadable = unreadable | _mask(with_nul)
    else:
        values = values.cast(pa.string())
    length = pc.binary_length(values).fill_null(0)
    too_long = _mask(pc.greater(length, MAX_BYTES))
    absent = _mask(pc.equal(length, 0)) & ~unreadable
    good = pa.array(~(absent | unreadable | too_long))
    if not pc.all(good).as_py():
        values = pc.if_else(good, values, pa.scalar(None, pa.string()))
    return Identifiers(values, absent, unreadable, too_long)


def _mask(mask: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(mask.to_numpy(zero_copy_only=False), dtype=bool)
