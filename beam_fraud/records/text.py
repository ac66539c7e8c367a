"""Read columns of text of any Arrow type: ids, and numbers that are spelled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from beam_fraud.sources.columns import is_text
from beam_fraud.sources.csv_text import NULL_SPELLINGS

#: Maximum bytes of an identifier.
MAX_BYTES = 256
#: Pattern of all numbers that Arrow can read, and little else.
_PLAUSIBLE = r"^[+-]?[0-9.][0-9.eE+-]*$|^[+-]?(?i:inf|infinity|nan)$"


def flat(values: pa.Array) -> pa.Array:
    """Decode a dictionary to its values."""
    return values.dictionary_decode() if pat.is_dictionary(values.type) else values


def as_utf8(values: pa.Array) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    """Convert strings or bytes to strings.

    Args:
      values: string, binary or null [n], including large and view types.

    Returns:
      string[n], null where absent or not UTF-8, and bool[n]: where it is not UTF-8.
    """
    if pat.is_string(values.type) or pat.is_large_string(values.type):
        # Arrow does not validate a file's UTF-8, and kernels may read past its end.
        values = values.cast(pa.binary())
    return tolerant_cast(values, lambda part: part.cast(pa.string()))


Cast = Callable[[pa.Array], pa.Array]


def tolerant_cast(
    values: pa.Array, cast: Cast, plausible: str | None = None
) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    """Convert every value that `cast` can convert.

    Each result depends on its value alone, never on its neighbours: all are tried at once, and on a
    failure the implausible values are set aside and the rest is halved until the failing ones stand
    alone.

    Args:
      values: any[n].
      cast: converts an array or raises pyarrow.ArrowInvalid; a null stays null.
      plausible: a regular expression that every convertible string matches; it only saves time if
        many values fail.

    Returns:
      The converted values, null on failure, and bool[n]: where it failed.
    """
    try:
        return cast(values), np.zeros(len(values), dtype=bool)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    if plausible is not None:
        likely = pc.match_substring_regex(values, plausible).fill_null(True)
        if not pc.all(likely).as_py():
            candidates = pc.if_else(likely, values, pa.scalar(None, values.type))
            converted, failed = tolerant_cast(candidates, cast)
            return converted, failed | ~as_mask(likely)
    return _halve(values, cast)


def _halve(values: pa.Array, cast: Cast) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    if len(values) <= 1:
        nothing = cast(pa.nulls(len(values), values.type))
        return nothing, np.ones(len(values), dtype=bool)
    middle = len(values) // 2
    left, left_failed = tolerant_cast(values[:middle], cast)
    right, right_failed = tolerant_cast(values[middle:], cast)
    return pa.concat_arrays([left, right]), np.concatenate([left_failed, right_failed])


def as_mask(mask: pa.BooleanArray) -> npt.NDArray[np.bool_]:
    """Convert booleans without nulls to bool[n]."""
    return np.asarray(mask.to_numpy(zero_copy_only=False), dtype=bool)


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
            unreadable = unreadable | as_mask(with_nul)
    else:
        values = values.cast(pa.string())
    length = pc.binary_length(values).fill_null(0)
    too_long = as_mask(pc.greater(length, MAX_BYTES))
    absent = as_mask(pc.equal(length, 0)) & ~unreadable
    good = pa.array(~(absent | unreadable | too_long))
    if not pc.all(good).as_py():
        values = pc.if_else(good, values, pa.scalar(None, pa.string()))
    return Identifiers(values, absent, unreadable, too_long)


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
