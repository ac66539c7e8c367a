"""Read columns of ids and categories: UTF-8 strings, or integers in decimal form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from beam_fraud.records.text import as_mask, as_utf8, flat, may_contain, together
from beam_fraud.schema.notation import AS_WRITTEN, IdNotation
from beam_fraud.schema.rates import code_of
from beam_fraud.sources.columns import is_text

#: Maximum bytes of an identifier.
MAX_BYTES = 256
#: Whole numbers from which a float has lost digits, by its type.
_EXACT = {pa.float16(): 2**11, pa.float32(): 2**24, pa.float64(): 2**53}
#: Scientific notation: what is in it, and its pattern, of a part of a composed id too.
_EXPONENTS = ("E+", "e+")
_SCIENTIFIC = r"(^|:)[0-9](\.[0-9]+)?[eE]\+[0-9]{2,}(:|$)"
_WHOLE_FLOAT = r"^-?[0-9]+\.0$"


@dataclass(frozen=True)
class Identifiers:
    """A column of identifiers."""

    #: string[n]; null where absent or unreadable.
    values: pa.StringArray
    #: bool[n]: where it is null or empty.
    absent: npt.NDArray[np.bool_]
    #: bool[n]: where it is not UTF-8, has a NUL, which databases refuse, or is a number with a
    #: fraction or too large to be exact.
    unreadable: npt.NDArray[np.bool_]
    #: bool[n]: where it exceeds `MAX_BYTES`.
    too_long: npt.NDArray[np.bool_]
    #: Number of values in scientific notation (`rounded`).
    rounded: int = 0


def as_identifiers(
    values: pa.Array,
    notation: IdNotation = AS_WRITTEN,
    *,
    absent: Sequence[str] = (),
    whole_floats: bool = False,
    cut: bool = False,
) -> Identifiers:
    """Read a column of identifiers.

    Args:
      values: strings, bytes, integers, floats, decimals, booleans or nulls [n].
      notation: how they are written.
      absent: spellings of an absent one, beside the empty text.
      whole_floats: whether text such as `12.0` is the integer 12, as programs write integers of
        columns with gaps; a column of floats is read so in any case.
      cut: whether a value that is too long is cut, not null.
    """
    values, spellings = flat(values), [text for text in absent if text]
    unreadable = np.zeros(len(values), dtype=bool)
    # All values as one text, which rules out for the column what few columns have.
    joined: bytes | None = None
    if is_text(values.type):
        values, unreadable = as_utf8(values)
        joined = together(values)
        if b"\0" in joined:
            unreadable = unreadable | as_mask(pc.match_substring(values, "\0").fill_null(False))
        if whole_floats and may_contain(joined, (".0",)):
            whole = pc.match_substring_regex(values, _WHOLE_FLOAT)
            values = pc.if_else(whole, pc.utf8_slice_codeunits(values, 0, -2), values)
    elif pat.is_floating(values.type) or pat.is_decimal(values.type):
        values, unreadable = _whole_numbers(values)
    else:
        if pat.is_integer(values.type):
            spellings = [text for text in spellings if any(map(str.isdigit, text))]
            joined = None if spellings else b""
        values = values.cast(pa.string())
    if not notation.plain:
        values, joined = _bare(values, notation), None
    if joined is None:
        joined = together(values)
    if may_contain(joined, spellings):
        spelled = pc.is_in(values, value_set=pa.array(spellings, pa.string()))
        values = pc.if_else(spelled, pa.scalar(None, pa.string()), values)
    length = pc.binary_length(values)
    extremes = pc.min_max(length).as_py()
    if cut and (extremes["max"] or 0) > MAX_BYTES:
        values = pa.array(
            [None if text is None else shortened(text) for text in values.to_pylist()], pa.string()
        )
        length = pc.binary_length(values)
        extremes = pc.min_max(length).as_py()
    missing = too_long = np.zeros(len(values), dtype=bool)
    if values.null_count or not extremes["min"] or extremes["max"] > MAX_BYTES or unreadable.any():
        length = length.fill_null(0)
        too_long = as_mask(pc.greater(length, MAX_BYTES))
        missing = as_mask(pc.equal(length, 0)) & ~unreadable
        good = pa.array(~(missing | unreadable | too_long))
        values = pc.if_else(good, values, pa.scalar(None, pa.string()))
    rounded = _in_scientific_notation(values) if may_contain(joined, _EXPONENTS) else 0
    return Identifiers(values, missing, unreadable, too_long, rounded)


def shortened(text: str) -> str:
    """Return the whole characters in the first `MAX_BYTES` of a text."""
    written = text.encode()
    return text if len(written) <= MAX_BYTES else written[:MAX_BYTES].decode(errors="ignore")


def rounded(values: pa.StringArray) -> int:
    """Return how many ids are numbers in scientific notation, which has cut their last digits.

    Example:
      >>> rounded(pa.array(["2.70319E+15", "2703186189652095", "A2E+15"]))
      1
    """
    return _in_scientific_notation(values) if may_contain(together(values), _EXPONENTS) else 0


def _in_scientific_notation(values: pa.StringArray) -> int:
    return int(pc.sum(pc.match_substring_regex(values, _SCIENTIFIC)).as_py() or 0)


def as_codes(identifiers: Identifiers) -> Identifiers:
    """Return identifiers of few values as codes of currencies.

    They are without white space around and in upper case; numbers of ISO 4217 become codes.

    Example:
      >>> as_codes(as_identifiers(pa.array([" eur", "EUR", "978", "36", " "]))).values.to_pylist()
      ['EUR', 'EUR', 'EUR', 'AUD', None]
    """
    few = identifiers.values.dictionary_encode()
    codes = pa.array([code_of(text) or None for text in few.dictionary.to_pylist()], pa.string())
    if codes.equals(few.dictionary):
        return identifiers
    values = codes.take(few.indices)
    absent = identifiers.absent | (
        as_mask(values.is_null()) & as_mask(identifiers.values.is_valid())
    )
    return replace(identifiers, values=values, absent=absent)


def _whole_numbers(values: pa.Array) -> tuple[pa.StringArray, npt.NDArray[np.bool_]]:
    """Return whole numbers in decimal form, and where a number is not whole or not exact."""
    if pat.is_decimal(values.type):
        text = pc.replace_substring_regex(values.cast(pa.string()), r"\.0+$", "")
        return text, as_mask(pc.match_substring(text, ".").fill_null(False))
    numbers = np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False))
    known = ~np.isnan(numbers)
    exact = known & (np.abs(np.where(known, numbers, 0)) < _EXACT[values.type])
    whole = exact & (np.floor(np.where(exact, numbers, 0)) == np.where(exact, numbers, 0))
    integers = pa.array(np.where(whole, numbers, 0).astype(np.int64), mask=~whole)
    return integers.cast(pa.string()), known & ~whole


def _bare(values: pa.StringArray, notation: IdNotation) -> pa.StringArray:
    if notation.trim:
        values = pc.utf8_trim_whitespace(values)
    if notation.prefix:
        rest = pc.utf8_slice_codeunits(values, len(notation.prefix), 2**31 - 1)
        values = pc.if_else(pc.starts_with(values, notation.prefix), rest, values)
    if notation.strip:
        rest = pc.utf8_ltrim(values, notation.strip)
        last = pc.utf8_slice_codeunits(values, -1, 2**31 - 1)
        values = pc.if_else(pc.equal(rest, ""), last, rest)
    if notation.pad:
        padded = pc.utf8_lpad(values, notation.pad, "0")
        values = pc.if_else(pc.equal(values, ""), values, padded)
    return values
