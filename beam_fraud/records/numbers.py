"""Read columns of numbers, or of strings that spell them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from beam_fraud.records.text import as_mask, as_utf8, flat, tolerant_cast
from beam_fraud.schema.notation import ABSENT, MINOR_PLACES, PLAIN, NumberNotation
from beam_fraud.sources.columns import is_text

#: Pattern of all numbers that Arrow can read, and little else.
_PLAUSIBLE = r"^[+-]?[0-9.][0-9.eE+-]*$|^[+-]?(?i:inf|infinity|nan)$"
#: Pattern of digits with separators, brackets, signs and a currency, in any order people use.
_FOREIGN = (
    r"^[\s\p{Z}(+-]*(?:\p{Sc}|[A-Za-z]{1,3}\.?)?\p{Sc}?[\s\p{Z}(+-]*"
    r"[0-9.,][0-9.,'\x{2019}\s\p{Z}]*"
    r"[\s\p{Z})-]*(?:\p{Sc}|[A-Za-z]{1,3}\.?)?[\s\p{Z})-]*$"
)


@dataclass(frozen=True)
class Numbers:
    """A column of numbers."""

    #: float64[n]; NaN where absent or unreadable.
    values: npt.NDArray[np.float64]
    #: bool[n]: where it is null.
    absent: npt.NDArray[np.bool_]
    #: bool[n]: where it is no number, as the notation writes numbers.
    unreadable: npt.NDArray[np.bool_]
    #: bool[n]: where it is unreadable, and a number in another notation.
    foreign: npt.NDArray[np.bool_]


def as_numbers(
    values: pa.Array,
    notation: NumberNotation = PLAIN,
    absent: Sequence[str] = ABSENT,
) -> Numbers:
    """Read a column of numbers, or of strings that spell them.

    Args:
      values: integers, floats, decimals, booleans, strings or nulls [n].
      notation: how strings write numbers; its unit is of no account here.
      absent: spellings of an absent number.
    """
    values = flat(values)
    unreadable = foreign = np.zeros(len(values), dtype=bool)
    if is_text(values.type):
        values, unreadable, foreign = _spelled(values, notation, absent)
    elif pat.is_null(values.type) or pat.is_boolean(values.type):
        values = values.cast(pa.int8()).cast(pa.float64())
    elif not pat.is_float64(values.type):
        values = values.cast(pa.float64(), safe=False)
    null = np.zeros(len(values), dtype=bool)
    if values.null_count:
        null = as_mask(values.is_null()) & ~unreadable
    numbers = np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)
    return Numbers(numbers, null, unreadable, foreign)


def in_major_units(
    amounts: npt.NDArray[np.float64], currency: pa.StringArray | None
) -> npt.NDArray[np.float64]:
    """Convert amounts in the smallest unit of their currency to the currency.

    Args:
      amounts: float64[n], such as cents.
      currency: string[n], codes of ISO 4217; None, null or another text for two decimal places.
    """
    if currency is None:
        return amounts / 100.0
    codes = currency.dictionary_encode()
    known = [10.0 ** MINOR_PLACES.get(code, 2) for code in codes.dictionary.to_pylist()]
    each = np.array([*known, 100.0])
    divisor: npt.NDArray[np.float64] = each[codes.indices.fill_null(len(known)).to_numpy()]
    return amounts / divisor


def _spelled(
    values: pa.Array, notation: NumberNotation, absent: Sequence[str]
) -> tuple[pa.Array, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    written, not_utf8 = as_utf8(values)
    trim = pc.ascii_trim(written, " \t") if notation.plain else pc.utf8_trim_whitespace(written)
    nothing = pa.scalar(None, pa.string())
    text = pc.if_else(pc.is_in(trim, value_set=pa.array(absent, pa.string())), nothing, trim)
    bare = text if notation.plain else _bare(text, notation)
    wrong = as_mask(bare.is_null()) & as_mask(text.is_valid())
    numbers, failed = tolerant_cast(bare, lambda part: part.cast(pa.float64()), _PLAUSIBLE)
    failed |= wrong
    foreign = np.zeros(len(text), dtype=bool)
    if failed.any():
        foreign[failed] = as_mask(
            pc.match_substring_regex(text.filter(pa.array(failed)), _FOREIGN).fill_null(False)
        )
    return numbers, failed | not_utf8, foreign


def _bare(text: pa.StringArray, notation: NumberNotation) -> pa.StringArray:
    """Return numbers as Arrow reads them; null where text is not of the notation."""
    text, below = _without_sign(text, notation)
    for symbol in notation.symbols:
        for cut in (_without_start, _without_end):
            text = cut(text, symbol)
    again = pa.scalar(False)
    if notation.symbols:
        text, again = _without_sign(text, notation)
    nothing = pa.scalar(None, pa.string())
    of_notation = pc.match_substring_regex(text, _number_pattern(notation))
    text = pc.if_else(of_notation, text, nothing)
    if notation.thousands:
        text = pc.replace_substring(text, notation.thousands, "")
    if notation.decimal != ".":
        text = pc.replace_substring(text, notation.decimal, ".")
    twice = pc.and_(below, again)
    signed = pc.if_else(pc.or_(below, again), pc.binary_join_element_wise("-", text, ""), text)
    return pc.if_else(twice, nothing, signed)


def _without_sign(
    text: pa.StringArray, notation: NumberNotation
) -> tuple[pa.StringArray, pa.BooleanArray]:
    """Return text without the mark of a number below zero, and where there was one."""
    marked = pc.starts_with(text, "-")
    bare = _without_start(text, "-")
    if notation.negative == "trailing":
        trailing = pc.and_(pc.ends_with(text, "-"), pc.invert(marked))
        bare = pc.if_else(trailing, _without_end(text, "-"), bare)
        marked = pc.or_(marked, trailing)
    if notation.negative == "brackets":
        bracketed = pc.and_(pc.starts_with(text, "("), pc.ends_with(text, ")"))
        bare = pc.if_else(bracketed, _without_end(_without_start(text, "("), ")"), bare)
        marked = pc.or_(marked, bracketed)
    return bare, marked


def _without_start(text: pa.StringArray, start: str) -> pa.StringArray:
    cut = pc.utf8_ltrim_whitespace(pc.utf8_slice_codeunits(text, len(start), 2**31 - 1))
    return pc.if_else(pc.starts_with(text, start), cut, text)


def _without_end(text: pa.StringArray, end: str) -> pa.StringArray:
    cut = pc.utf8_rtrim_whitespace(pc.utf8_slice_codeunits(text, 0, -len(end)))
    return pc.if_else(pc.ends_with(text, end), cut, text)


@lru_cache
def _number_pattern(notation: NumberNotation) -> str:
    """Return the pattern of an unsigned number: groups of three digits, or of two above them."""
    decimal, thousands = re.escape(notation.decimal), re.escape(notation.thousands)
    whole = "[0-9]+"
    if notation.thousands:
        whole = f"(?:[0-9]+|[0-9]{{1,3}}(?:{thousands}[0-9]{{2,3}})*{thousands}[0-9]{{3}})"
    return f"^[+]?(?:{whole}(?:{decimal}[0-9]*)?|{decimal}[0-9]+)(?:[eE][+-]?[0-9]+)?$"
