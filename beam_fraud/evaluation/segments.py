"""Figures by segment: amount, hour, weekday, merchant, category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa

from beam_fraud.errors import Code, UsageError
from beam_fraud.evaluation.rows import EvaluatedRows, Floats, Ints, Labels, hours_of, weekdays_of
from beam_fraud.models.metrics import average_precision
from beam_fraud.schema.schema import FeatureColumn, Schema

#: Maximum of values with their own segment; others share one.
MOST_VALUES = 15
_OTHERS, _ABSENT = "(others)", "(none)"
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
#: Quantiles near which bands of amounts end.
AMOUNT_SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


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
    ends = np.unique([_rounded(x) for x in np.quantile(amounts, AMOUNT_SHARES)])
    return Segmentation("amount", band_names(ends), np.searchsorted(ends, amounts, side="right"))


def band_names(ends: Floats) -> tuple[str, ...]:
    """Return the names of the k + 1 bands between k > 0 edges, rising."""
    return (
        f"under {ends[0]:,.10g}",
        *(f"{low:,.10g} to {high:,.10g}" for low, high in pairwise(ends)),
        f"{ends[-1]:,.10g} and more",
    )


def by_hour(rows: EvaluatedRows) -> Segmentation:
    """Return the 24 hours of the day."""
    names = tuple(f"{hour:02}:00" for hour in range(24))
    return Segmentation("hour", names, hours_of(rows.times))


def by_weekday(rows: EvaluatedRows) -> Segmentation:
    """Return Monday to Sunday."""
    return Segmentation("weekday", _WEEKDAYS, weekdays_of(rows.times))


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
    known: list[str | None] = [*encoded.dictionary.to_pylist(), None]
    codes = np.asarray(encoded.indices.fill_null(len(known) - 1), dtype=np.int64)
    rows = np.bincount(codes, minlength=len(known))
    frauds = np.bincount(codes, labels, len(known))
    names, places = grouped_values(known, rows, frauds.astype(np.int64))
    return Segmentation(name, names, places[codes])


def grouped_values(
    values: Sequence[str | None], rows: Ints, frauds: Ints
) -> tuple[tuple[str, ...], Ints]:
    """Choose the values that have a segment of their own.

    Args:
      values: k distinct values of a column, None where it is absent.
      rows: int64[k], rows of each.
      frauds: int64[k], frauds of each.

    Returns:
      Names of the segments, and int64[k]: the segment of each value.
    """
    known = {i: value for i, value in enumerate(values) if value is not None}
    # Names break ties, independent of the order of rows.
    order = sorted(known, key=lambda i: (-frauds[i], -rows[i], known[i]))
    shown, rest = order[:MOST_VALUES], order[MOST_VALUES:]
    if len(rest) == 1:
        shown, rest = order, []
    if not rest:
        shown = sorted(shown, key=lambda i: known[i])
    names = [known[i] for i in shown]
    places = np.zeros(len(values), dtype=np.int64)
    places[shown] = np.arange(len(shown))
    if rest:
        places[rest] = len(names)
        names.append(f"{_OTHERS[:-1]}: {len(rest):,})")
    absent = [i for i, value in enumerate(values) if value is None and rows[i]]
    if absent:
        places[absent] = len(names)
        names.append(_ABSENT)
    return tuple(names), places


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


#: Roles that `--segment` accepts, by role or column name.
_ROLES = ("account_id", "merchant_id", "currency")


def schema_to_read(schema: Schema, segments: Sequence[str]) -> Schema:
    """Return a schema that also reads the requested columns, as optional text.

    Models select features by name, so they ignore added columns.

    Args:
      schema: of the transactions.
      segments: values of `--segment`.

    Raises:
      UsageError: a column is invalid as a segment.
    """
    added = []
    for column in dict.fromkeys(segments):
        if _known(schema, column) is not None:
            continue
        if column in schema.roles.values():
            raise UsageError(
                f"--segment {column}: is the time, amount, label or id of every row; "
                "give another column",
                Code.OPTION_VALUE,
            )
        added.append(FeatureColumn(column, "categorical", "allow"))
    return replace(schema, features=(*schema.features, *added)) if added else schema


def segmentations_of(
    transactions: pa.Table, rows: EvaluatedRows, schema: Schema, segments: Sequence[str]
) -> tuple[Segmentation, ...]:
    """Return segmentations by amount, hour, weekday, merchant, categories and request.

    Args:
      transactions: transactions read with `schema_to_read`.
      rows: their arrays.
      schema: the schema without the added columns.
      segments: values of `--segment`.
    """
    segmentations = [by_amount(rows.amounts), by_hour(rows), by_weekday(rows)]
    columns = [f.column for f in schema.features if f.kind == "categorical"]
    if "merchant_id" in schema.roles:
        columns.insert(0, "merchant_id")
    columns += [_known(schema, column) or column for column in segments]
    for column in dict.fromkeys(columns):
        values = transactions.column(column)
        if pa.types.is_string(values.type):
            segmentations.append(by_value(column, values, rows.labels))
        else:
            numbers = np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)
            segmentations.append(by_number(column, numbers))
    return tuple(segmentations)


def _known(schema: Schema, column: str) -> str | None:
    """Return the name of a column among those read anyway, or None."""
    for role in _ROLES:
        if role in schema.roles and column in (role, schema.roles[role]):
            return role
    features = (feature.column for feature in schema.features)
    return column if column in (*features, *schema.key_columns) else None


@dataclass(frozen=True)
class Segment:
    """Figures of a segment; the rows of all segments sum up to the whole."""

    #: Name of the segment.
    name: str
    #: Transactions.
    rows: int
    #: Frauds among them.
    frauds: int
    #: Rows flagged.
    flagged: int
    #: Frauds among the flagged.
    caught: int
    #: Frauds among the flagged, as a share; None if nothing is flagged.
    precision: float | None
    #: Flagged among the frauds, as a share; None if there are none.
    recall: float | None
    #: Average precision; None with one class.
    average_precision: float | None


@dataclass(frozen=True)
class SegmentTable:
    """The segments that have rows, in order."""

    #: Name of the segmentation.
    name: str
    #: In order.
    segments: tuple[Segment, ...]


def segment_table(
    segmentation: Segmentation, labels: Labels, scores: Floats, threshold: float
) -> SegmentTable:
    """Return figures by segment.

    Args:
      segmentation: segmentation of n rows.
      labels: int8[n], 1 is fraud.
      scores: float64[n].
      threshold: a score of at least this is flagged.
    """
    order = np.argsort(segmentation.codes, kind="stable")
    ends = np.searchsorted(segmentation.codes[order], np.arange(len(segmentation.segments) + 1))
    return SegmentTable(
        segmentation.name,
        tuple(
            _segment(name, labels[rows], scores[rows], threshold)
            for name, start, stop in zip(segmentation.segments, ends[:-1], ends[1:], strict=True)
            if start < stop
            for rows in [order[start:stop]]
        ),
    )


def _segment(name: str, labels: Labels, scores: Floats, threshold: float) -> Segment:
    flags = scores >= threshold
    frauds, flagged = int(labels.sum()), int(flags.sum())
    caught = int(labels[flags].sum())
    return Segment(
        name=name,
        rows=len(labels),
        frauds=frauds,
        flagged=flagged,
        caught=caught,
        precision=caught / flagged if flagged else None,
        recall=caught / frauds if frauds else None,
        average_precision=average_precision(labels, scores),
    )
