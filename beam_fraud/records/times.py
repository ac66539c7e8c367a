"""Read times: timestamps, numbers and text, to microseconds UTC."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from beam_fraud.records.numbers import as_numbers
from beam_fraud.records.text import as_mask, as_utf8, flat, tolerant_cast
from beam_fraud.records.time_forms import (
    RFC_2822_FORMS,
    FormedTimes,
    read_form,
    with_numeric_zone,
)
from beam_fraud.schema.notation import (
    ANY_TIME,
    EXCEL,
    EXCEL_ORIGIN,
    ISO_8601,
    MICROS,
    RFC_2822,
    TimeNotation,
)
from beam_fraud.sources.columns import is_text

#: Times outside [EARLIEST, LATEST) are impossible for a card transaction.
EARLIEST = 0
LATEST = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp()) * MICROS["s"]
#: Epoch numbers below each limit have that many microseconds per unit; the limits are where seconds
#: reach the year 5138 and milliseconds, microseconds begin in 1973.
_UNITS = ((1e11, 1_000_000.0), (1e14, 1_000.0), (1e17, 1.0), (np.inf, 1e-3))

_NUMBER = r"^[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?$"
_ZONED = r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"
_FINER_THAN_MICROS = r"(\.[0-9]{6})[0-9]+"
_LONGEST_IN_MICROS = len("2000-01-01T00:00:00.000000")
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
#: A date alone may end like a zone, so a zone must follow a time of day.
_DATE_AND_ZONE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ].*" + _ZONED
_EXCEL_DAYS = TimeNotation(unit="day", origin=EXCEL_ORIGIN)


@dataclass(frozen=True)
class Times:
    """A column of times."""

    #: int64[n]: microseconds since 1970-01-01 UTC; 0 where absent, unreadable or impossible.
    micros: npt.NDArray[np.int64]
    #: bool[n]: where it is null.
    absent: npt.NDArray[np.bool_]
    #: bool[n]: where it is no time.
    unreadable: npt.NDArray[np.bool_]
    #: bool[n]: where the time is before 1970 or after 2199.
    impossible: npt.NDArray[np.bool_]
    #: bool[n]: where it is a clock's time without a zone.
    naive: npt.NDArray[np.bool_]
    #: Number of values that are numbers of an assumed unit.
    assumed: int = 0


def as_times(values: pa.Array, notation: TimeNotation = ANY_TIME, timezone: str = "UTC") -> Times:
    """Read a column of times.

    A number is seconds, milliseconds, microseconds or nanoseconds since 1970, by its magnitude,
    unless the notation has a unit or origin. Numbers are rounded to microseconds, timestamps and
    strings truncated. A time without a zone is UTC, or local if the notation says so: then a time
    that a clock shows twice is the first, and one that it skips the end of the gap.

    Args:
      values: timestamps, dates, integers, floats, strings or nulls [n].
      notation: how text and numbers write times.
      timezone: zone of local times, an IANA name.
    """
    times = _read(flat(values), notation)
    if notation.naive != "local" or not times.naive.any():
        return times
    known = times.naive & ~(times.absent | times.unreadable | times.impossible)
    clock = pa.array(times.micros).cast(pa.timestamp("us"))
    there = pc.assume_timezone(clock, timezone, ambiguous="earliest", nonexistent="latest")
    return replace(times, micros=np.where(known, there.cast(pa.int64()).to_numpy(), times.micros))


def _read(values: pa.Array, notation: TimeNotation) -> Times:
    if pat.is_timestamp(values.type) or pat.is_date(values.type):
        return _of_timestamps(values)
    if notation.forms:
        return _of_forms(as_text(values), notation)
    if is_text(values.type):
        return _of_strings(values, notation)
    return _of_numbers(values, notation)


def _of_timestamps(values: pa.Array) -> Times:
    naive = np.full(len(values), pat.is_date(values.type) or values.type.tz is None)
    if pat.is_date(values.type):
        values = values.cast(pa.timestamp("ms"))
    absent = np.zeros(len(values), dtype=bool)
    if values.null_count:
        absent = as_mask(values.is_null())
    ticks = np.asarray(values.cast(pa.int64()).fill_null(0).to_numpy(), dtype=np.int64)
    if values.type.unit == "ns":
        return _within(ticks // 1_000, absent, np.zeros(len(values), dtype=bool), naive)
    micros_each = MICROS[values.type.unit]
    beyond = (ticks < 0) | (ticks >= LATEST // micros_each)
    micros = np.where(beyond, -1, ticks) * micros_each
    return _within(micros, absent, np.zeros(len(values), dtype=bool), naive)


def _of_numbers(values: pa.Array, notation: TimeNotation) -> Times:
    numbers = as_numbers(values)
    unreadable = numbers.unreadable | (~np.isfinite(numbers.values) & ~numbers.absent)
    amounts = np.where(unreadable | numbers.absent, 0.0, numbers.values)
    scale: float | npt.NDArray[np.float64]
    assumed = 0
    if notation.unit is not None or notation.origin is not None:
        scale = float(MICROS[notation.unit or "s"])
    else:
        assumed = len(amounts) - int(np.count_nonzero(unreadable | numbers.absent))
        size = np.abs(amounts)
        scale = np.select([size < bound for bound, _ in _UNITS], [s for _, s in _UNITS])
    # Past 2**63 microseconds the conversion to integers would wrap around.
    micros = np.clip(np.rint(amounts * scale) + notation.origin_micros, -1.0, float(LATEST))
    zoned = np.zeros(len(amounts), dtype=bool)
    times = _within(micros.astype(np.int64), numbers.absent, unreadable, zoned)
    return replace(times, assumed=assumed)


def _of_strings(values: pa.Array, notation: TimeNotation) -> Times:
    text, not_utf8 = _trimmed(values)
    if pc.any(pc.ends_with(text, "UTC")).as_py():
        text = pc.replace_substring_regex(text, " ?UTC$", "Z")
    absent = as_mask(text.is_null()) & ~not_utf8
    is_number = as_mask(pc.match_substring_regex(text, _NUMBER).fill_null(False))
    if is_number.all() and len(text):
        return _of_numbers(text, notation)
    written = pc.if_else(pa.array(is_number), pa.scalar(None, pa.string()), text)
    micros, failed, zoned = _of_iso(written)
    times = _within(micros, absent | is_number, failed | not_utf8, ~zoned)
    if not is_number.any():
        return replace(times, absent=absent)
    counted = _of_numbers(pc.if_else(pa.array(is_number), text, None), notation)
    return Times(
        np.where(is_number, counted.micros, times.micros),
        absent,
        np.where(is_number, counted.unreadable, times.unreadable),
        np.where(is_number, counted.impossible, times.impossible),
        times.naive & ~is_number,
        counted.assumed,
    )


def _of_forms(values: pa.Array, notation: TimeNotation) -> Times:
    """Read text by the first form that fits."""
    text, not_utf8 = _trimmed(values)
    absent = as_mask(text.is_null()) & ~not_utf8
    micros = np.zeros(len(text), dtype=np.int64)
    naive, left = np.zeros(len(text), dtype=bool), ~(absent | not_utf8)
    for form in notation.forms:
        for read in _by_form(text, form):
            new = left & read.read
            micros[new] = read.micros[new]
            naive[new] = not read.zoned
            left &= ~new
            if not left.any():
                return _within(micros, absent, not_utf8, naive)
    return _within(micros, absent, left | not_utf8, naive)


def _by_form(text: pa.StringArray, form: str) -> Iterator[FormedTimes]:
    if form == EXCEL:
        days = _of_numbers(text, _EXCEL_DAYS)
        # A number of days that is impossible must not become the first of January 1970.
        micros = np.where(days.impossible, -1, days.micros)
        yield FormedTimes(micros, ~(days.absent | days.unreadable), zoned=False)
    elif form == ISO_8601:
        micros, failed, zoned = _of_iso(text)
        yield FormedTimes(micros, zoned & ~failed, zoned=True)
        yield FormedTimes(micros, ~(zoned | failed), zoned=False)
    elif form == RFC_2822:
        text = with_numeric_zone(text)
        yield from (read_form(text, one) for one in RFC_2822_FORMS)
    else:
        yield read_form(text, form)


def as_text(values: pa.Array) -> pa.Array:
    """Return any values as text, whole numbers without a fraction."""
    if is_text(values.type):
        return values
    if pat.is_floating(values.type):
        whole = np.asarray(values.fill_null(0.5).to_numpy(), dtype=np.float64)
        if ((whole == np.floor(whole)) & (np.abs(whole) < 2.0**53) | values.is_null()).all():
            return values.cast(pa.int64()).cast(pa.string())
    return values.cast(pa.string())


def _trimmed(values: pa.Array) -> tuple[pa.StringArray, npt.NDArray[np.bool_]]:
    """Return text without white space at its ends, null where empty; and where it is not UTF-8."""
    text, not_utf8 = as_utf8(values)
    text = pc.ascii_trim(text, " \t")
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text), not_utf8


def _of_iso(
    text: pa.StringArray,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return microseconds, where text is no ISO 8601 time, and where it says its zone."""
    zoned = pc.match_substring_regex(text, _DATE_AND_ZONE).fill_null(False)
    nothing = pa.scalar(None, pa.string())
    if (pc.max(pc.binary_length(text)).as_py() or 0) > _LONGEST_IN_MICROS:
        text = pc.replace_substring_regex(text, _FINER_THAN_MICROS, r"\1")
    in_zone, zoned_failed = tolerant_cast(
        pc.if_else(zoned, text, nothing), lambda part: part.cast(pa.timestamp("us", "UTC")), _DATE
    )
    naive, naive_failed = tolerant_cast(
        pc.if_else(zoned, nothing, text), lambda part: part.cast(pa.timestamp("us")), _DATE
    )
    micros = pc.if_else(zoned, in_zone.cast(pa.int64()), naive.cast(pa.int64())).fill_null(0)
    failed = zoned_failed | naive_failed
    return np.asarray(micros.to_numpy(), dtype=np.int64), failed, as_mask(zoned)


def _within(
    micros: npt.NDArray[np.int64],
    absent: npt.NDArray[np.bool_],
    unreadable: npt.NDArray[np.bool_],
    naive: npt.NDArray[np.bool_],
) -> Times:
    unknown = absent | unreadable
    if len(micros) and not unknown.any() and micros.min() >= EARLIEST and micros.max() < LATEST:
        return Times(micros, absent, unreadable, unknown, naive)
    impossible = ((micros < EARLIEST) | (micros >= LATEST)) & ~unknown
    micros = np.where(impossible | unknown, 0, micros)
    return Times(micros, absent, unreadable, impossible, naive & ~unknown)
