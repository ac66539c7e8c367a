"""Read event times: timestamps, epoch numbers and ISO 8601 strings, to microseconds UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from beam_fraud.records.text import as_mask, as_numbers, as_utf8, flat, tolerant_cast
from beam_fraud.sources.columns import is_text

_MICROS = 1_000_000
#: Times outside [EARLIEST, LATEST) are impossible for a card transaction.
EARLIEST = 0
LATEST = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp()) * _MICROS
#: Epoch numbers below each limit have that many microseconds per unit; the limits are where seconds
#: reach the year 5138 and milliseconds, microseconds begin in 1973.
_UNITS = ((1e11, 1_000_000.0), (1e14, 1_000.0), (1e17, 1.0), (np.inf, 1e-3))
_UNIT_MICROS = {"s": _MICROS, "ms": 1_000, "us": 1}

_NUMBER = r"^[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?$"
_ZONED = r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"
_FINER_THAN_MICROS = r"(\.[0-9]{6})[0-9]+"
_LONGEST_IN_MICROS = len("2000-01-01T00:00:00.000000")
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
#: A date alone may end like a zone, so a zone must follow a time of day.
_DATE_AND_ZONE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ].*" + _ZONED


@dataclass(frozen=True)
class Times:
    """A column of event times."""

    #: int64[n]: microseconds since 1970-01-01 UTC; 0 where absent, unreadable or impossible.
    micros: npt.NDArray[np.int64]
    #: bool[n]: where it is null.
    absent: npt.NDArray[np.bool_]
    #: bool[n]: where it is no time.
    unreadable: npt.NDArray[np.bool_]
    #: bool[n]: where the time is before 1970 or after 2199.
    impossible: npt.NDArray[np.bool_]


def as_times(values: pa.Array, origin: str | None = None) -> Times:
    """Read a column of event times.

    A time without a zone is UTC. A number is seconds, milliseconds, microseconds or nanoseconds
    since 1970, by its magnitude; with `origin`, seconds since then. Numbers are rounded to
    microseconds, timestamps and strings truncated.

    Args:
      values: timestamps, dates, integers, floats, strings or nulls [n].
      origin: ISO 8601 time from which numbers count.
    """
    values = flat(values)
    if pat.is_timestamp(values.type) or pat.is_date(values.type):
        return _of_timestamps(values)
    if is_text(values.type):
        return _of_strings(values, origin)
    return _of_numbers(values, origin)


def _of_timestamps(values: pa.Array) -> Times:
    if pat.is_date(values.type):
        values = values.cast(pa.timestamp("ms"))
    absent = as_mask(values.is_null())
    ticks = np.asarray(values.cast(pa.int64()).fill_null(0).to_numpy(), dtype=np.int64)
    if values.type.unit == "ns":
        return _within(ticks // 1_000, absent, np.zeros(len(values), dtype=bool))
    micros_each = _UNIT_MICROS[values.type.unit]
    beyond = (ticks < 0) | (ticks >= LATEST // micros_each)
    micros = np.where(beyond, -1, ticks) * micros_each
    return _within(micros, absent, np.zeros(len(values), dtype=bool))


def _of_numbers(values: pa.Array, origin: str | None) -> Times:
    numbers = as_numbers(values)
    unreadable = numbers.unreadable | (~np.isfinite(numbers.values) & ~numbers.absent)
    amounts = np.where(unreadable | numbers.absent, 0.0, numbers.values)
    if origin is not None:
        start = datetime.fromisoformat(origin)
        start = start if start.tzinfo else start.replace(tzinfo=UTC)
        offset, scale = start.timestamp() * _MICROS, np.full(len(amounts), float(_MICROS))
    else:
        offset = 0.0
        size = np.abs(amounts)
        scale = np.select([size < bound for bound, _ in _UNITS], [s for _, s in _UNITS])
    # Past 2**63 microseconds the conversion to integers would wrap around.
    micros = np.clip(np.rint(amounts * scale) + offset, -1.0, float(LATEST))
    return _within(micros.astype(np.int64), numbers.absent, unreadable)


def _of_strings(values: pa.Array, origin: str | None) -> Times:
    text, not_utf8 = as_utf8(values)
    text = pc.ascii_trim(text, " \t")
    if pc.any(pc.ends_with(text, "UTC")).as_py():
        text = pc.replace_substring_regex(text, " ?UTC$", "Z")
    text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    absent = as_mask(text.is_null()) & ~not_utf8
    is_number = as_mask(pc.match_substring_regex(text, _NUMBER).fill_null(False))
    if is_number.all() and len(text):
        return _of_numbers(text, origin)
    written = pc.if_else(pa.array(is_number), pa.scalar(None, pa.string()), text)
    micros, failed = _of_iso(written)
    if is_number.any():
        counted = _of_numbers(pc.if_else(pa.array(is_number), text, None), origin)
        times = _within(micros, absent | is_number, failed | not_utf8)
        return Times(
            np.where(is_number, counted.micros, times.micros),
            absent,
            np.where(is_number, counted.unreadable, times.unreadable),
            np.where(is_number, counted.impossible, times.impossible),
        )
    return _within(micros, absent, failed | not_utf8)


def _of_iso(text: pa.StringArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
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
    return np.asarray(micros.to_numpy(), dtype=np.int64), zoned_failed | naive_failed


def _within(
    micros: npt.NDArray[np.int64],
    absent: npt.NDArray[np.bool_],
    unreadable: npt.NDArray[np.bool_],
) -> Times:
    impossible = ((micros < EARLIEST) | (micros >= LATEST)) & ~absent & ~unreadable
    return Times(
        np.where(impossible | absent | unreadable, 0, micros), absent, unreadable, impossible
    )
