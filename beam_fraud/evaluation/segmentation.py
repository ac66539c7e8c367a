"""Divide transactions into segments: by amount, hour, weekday, merchant, category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from beam_fraud.evaluation.rows import EvaluatedRows, Floats, Ints, Labels
from beam_fraud.schema.duration import DAY, HOUR

#: Maximum of values with their own segment; others share one.
MOST_VALUES = 15
_OTHERS, _ABSENT = "(others)", "(none)"
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
#: Quantiles near which bands of amounts end.
_SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


@dataclass(frozen=True)
class Segmentation:
    """A segment for each of n rows."""

    #: Name of the segmentation.
    name: str
    #: Names of the segments, in order.
    segments: tuple[str, ...]
    #: int64[n]: segment of each row.
    codes: Ints


def by_amount(amounts: Floats) -> Segmentation:
    """Return bands of amounts, float64[n], with round edges near quantiles."""
    ends = np.unique([_rounded(x) for x in np.quantile(amounts, _SHARES)])
    names = [
        f"under {ends[0]:,.10g}",
        *(f"{low:,.10g} to {high:,.10g}" for low, high in pairwise(ends)),
        f"{ends[-1]:,.10g} and more",
    ]
    return Segmentation("amount", tuple(names), np.searchsorted(ends, amounts, side="right"))


def by_hour(rows: EvaluatedRows) -> Segmentation:
    """Return the 24 hours of the day."""
    names = tuple(f"{hour:02}:00" for hour in range(24))
    return Segmentation("hour", names, rows.times // HOUR % 24)


def by_weekday(rows: EvaluatedRows) -> Segmentation:
    """Return Monday to Sunday."""
    # 1970-01-01 was a Thursday.
    return Segmentation("weekday", _WEEKDAYS, (rows.times // DAY + 3) % 7)


def by_value(name: str, values: pa.Array | pa.ChunkedArray, labels: Labels) -> Segmentation:
    """Return the values with most frauds, then most rows; group the others.

    Args:
      name: of the column.
      values: string[n], null where absent.
      labels: int8[n], 1 is fraud.
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    encoded = values.dictionary_encode()
    known: Sequence[str] = encoded.dictionary.to_pylist()
    codes = np.asarray(encoded.indices.fill_null(len(known)), dtype=np.int64)
    rows = np.bincount(codes, minlength=len(known) + 1)
    frauds = np.bincount(codes, labels, len(known) + 1)
    # Names break ties, independent of the order of rows.
    order = sorted(range(len(known)), key=lambda i: (-frauds[i], -rows[i], known[i]))
    shown, rest = order[:MOST_VALUES], order[MOST_VALUES:]
    if len(rest) == 1:
        shown, rest = order, []
    if not rest:
        shown = sorted(shown, key=lambda i: known[i])
    names = [known[i] for i in shown]
    places = np.empty(len(known) + 1, dtype=np.int64)
    places[shown] = np.arange(len(shown))
    if rest:
        places[rest] = len(names)
        names.append(f"{_OTHERS[:-1]}: {len(rest):,})")
    if rows[-1]:
        places[-1] = len(names)
        names.append(_ABSENT)
    return Segmentation(name, tuple(names), places[codes])


def by_number(name: str, values: Floats) -> Segmentation:
    """Return bands of a numeric feature, float64[n], NaN where absent."""
    absent = np.isnan(values)
    if absent.all():
        return Segmentation(name, (_ABSENT,), np.zeros(len(values), dtype=np.int64))
    bands = by_amount(values[~absent])
    codes = np.full(len(values), len(bands.segments))
    codes[~absent] = bands.codes
    names = (*bands.segments, _ABSENT) if absent.any() else bands.segments
    return Segmentation(name, names, codes)


def _rounded(value: float) -> float:
    """Return the nearest of 1, 2 and 5 times a power of ten, below zero likewise.

    Example:
      >>> [_rounded(x) for x in (7.2, 0.0, -130.0)]
      [5.0, 0.0, -100.0]
    """
    if not value:
        return 0.0
    power = 10.0 ** np.floor(np.log10(abs(value)))
    steps = power * np.array([1, 2, 5, 10])
    return float(np.copysign(steps[np.argmin(np.abs(steps - abs(value)))], value))
