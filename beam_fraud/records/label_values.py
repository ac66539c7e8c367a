"""Read columns of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.records.identifiers import as_identifiers
from beam_fraud.records.numbers import as_numbers
from beam_fraud.records.text import as_mask, flat
from beam_fraud.schema.notation import ABSENT, ZERO_OR_ONE, LabelNotation
from beam_fraud.sources.columns import is_text

#: Spellings of a label that are no number, in lower case.
_TRUE, _FALSE = "true", "false"


@dataclass(frozen=True)
class LabelValues:
    """A column of labels."""

    #: int8[n]: 1 for fraud, 0 for genuine, 0 where unknown or unreadable.
    values: npt.NDArray[np.int8]
    #: bool[n]: where it is null, or a spelling of an unknown label.
    unknown: npt.NDArray[np.bool_]
    #: bool[n]: where it is a label that no spelling covers.
    unreadable: npt.NDArray[np.bool_]


def as_labels(
    values: pa.Array, notation: LabelNotation = ZERO_OR_ONE, absent: Sequence[str] = ABSENT
) -> LabelValues:
    """Read a column of labels.

    Args:
      values: numbers, booleans, strings or nulls [n].
      notation: how labels are spelled.
      absent: spellings of an absent label.
    """
    if notation.positive or notation.negative:
        return _spelled(values, notation, absent)
    values = flat(values)
    numbers = as_numbers(values, absent=absent)
    fraud, genuine = numbers.values == 1, numbers.values == 0
    unknown, unreadable = numbers.absent, ~(fraud | genuine | numbers.absent)
    if is_text(values.type) and unreadable.any():
        words = _words(values)
        fraud = fraud | _is_in(words, (_TRUE,))
        genuine = genuine | _is_in(words, (_FALSE,))
        unknown = unknown | _is_in(words, notation.unknown)
        unreadable = unreadable & ~(fraud | genuine | unknown)
    return LabelValues(fraud.astype(np.int8), unknown, unreadable)


def _spelled(values: pa.Array, notation: LabelNotation, absent: Sequence[str]) -> LabelValues:
    words = _words(values)
    unknown = as_mask(words.is_null()) | _is_in(words, (*absent, *notation.unknown))
    fraud, genuine = _is_in(words, notation.positive), _is_in(words, notation.negative)
    if not notation.negative:
        genuine = ~(fraud | unknown)
    if not notation.positive:
        fraud = ~(genuine | unknown)
    return LabelValues(fraud.astype(np.int8), unknown, ~(fraud | genuine | unknown))


def _words(values: pa.Array) -> pa.StringArray:
    """Return labels as text in lower case; null where absent."""
    identifiers = as_identifiers(values, whole_floats=True)
    return pc.utf8_lower(pc.utf8_trim_whitespace(identifiers.values))


def _is_in(words: pa.StringArray, spellings: Sequence[str]) -> npt.NDArray[np.bool_]:
    lower = pa.array([spelling.strip().lower() for spelling in spellings], pa.string())
    return as_mask(pc.is_in(words, value_set=lower, skip_nulls=True))
