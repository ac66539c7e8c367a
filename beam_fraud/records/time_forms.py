"""Read text that writes times in a form of the schema, to microseconds UTC."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.records.text import as_mask

#: Directives that Arrow reads by the system's `strptime`. It reads a day beyond the end of a month
#: as one of the next month, so `_doubtful` rows are read again.
_FAST = frozenset("dmYyHMSIpbBaA%")
#: Characters of each directive of digits, where no separator says where the next one begins.
_WIDTHS = {"Y": 4, "y": 2, "m": 2, "d": 2, "H": 2, "I": 2, "M": 2, "S": 2, "j": 3}
_DIGITS_TOUCH = re.compile(r"%[YymdHIMSj]%[YymdHIMSj]")
_OFFSET = re.compile(r"([+-])([0-9]{2}):?([0-9]{2})$")
_LATE_DAYS = "29|30|31"
_SECOND = 1_000_000
#: Forms of RFC 2822 (and of `Date:` in HTTP): a weekday and seconds are optional.
RFC_2822_FORMS = (
    "%a, %d %b %Y %H:%M:%S %z",
    "%d %b %Y %H:%M:%S %z",
    "%a, %d %b %Y %H:%M %z",
    "%d %b %Y %H:%M %z",
)
_ZONE_NAMES = r" (GMT|UTC|UT|Z)$"


@dataclass(frozen=True)
class FormedTimes:
    """Text read by one form."""

    #: int64[n]: microseconds; 0 where absent or not of the form.
    micros: npt.NDArray[np.int64]
    #: bool[n]: whether it is of the form.
    read: npt.NDArray[np.bool_]
    #: Whether the form says the zone; otherwise the microseconds are of a clock without a zone.
    zoned: bool


def read_form(text: pa.StringArray, form: str) -> FormedTimes:
    """Read times of one form.

    Args:
      text: string[n], without white space at its ends; null where absent.
      form: directives of `strptime`.

    Example:
      >>> read_form(pa.array(["08/02/1970 00:00", "30/02/1970 00:00"]), "%d/%m/%Y %H:%M").read
      array([ True, False])
    """
    if touching := _touching_width(form):
        text = pc.if_else(pc.equal(pc.utf8_length(text), touching), text, None)
    body, zone = (form[:-2].rstrip(), True) if form.endswith("%z") else (form, False)
    fraction = body.endswith("%f") and len(body) > len("%f") and body[-3] not in "%"
    plain = body[:-3] if fraction else body
    if not _is_fast(plain):
        return _read_by_pandas(text, form)
    offsets, parts = np.zeros(len(text), dtype=np.int64), np.zeros(len(text), dtype=np.int64)
    rest, good = text, np.ones(len(text), dtype=bool)
    if zone:
        rest, offsets, good = _cut_offset(rest)
    if fraction:
        rest, parts, whole = _cut_fraction(rest, body[-3])
        good &= whole
    times = pc.strptime(rest, plain, "us", error_is_null=True)
    good &= as_mask(times.is_valid())
    micros = np.asarray(times.cast(pa.int64()).fill_null(0).to_numpy(), dtype=np.int64)
    micros = np.where(good, micros + parts - offsets, 0)
    doubtful = good & _doubtful(rest, times)
    if doubtful.any():
        again = _read_by_pandas(text.filter(pa.array(doubtful)), form)
        micros[doubtful], good[doubtful] = again.micros, again.read
    return FormedTimes(micros, good, zone)


def with_numeric_zone(text: pa.StringArray) -> pa.StringArray:
    """Replace the names of UTC at the end of RFC 2822 times by its offset."""
    if pc.any(pc.match_substring_regex(text, _ZONE_NAMES)).as_py():
        text = pc.replace_substring_regex(text, _ZONE_NAMES, " +0000")
    return text


@lru_cache
def _is_fast(form: str) -> bool:
    return set(re.findall(r"%(.)", form)) <= _FAST


@lru_cache
def _touching_width(form: str) -> int | None:
    """Return the characters of a form of digits without separators; None for another form."""
    if not _DIGITS_TOUCH.search(form):
        return None
    directives = re.findall(r"%(.)", form)
    if any(directive not in _WIDTHS for directive in directives):
        return None
    return sum(_WIDTHS[d] for d in directives) + len(re.sub(r"%.", "", form))


def _cut_offset(
    text: pa.StringArray,
) -> tuple[pa.StringArray, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Cut `+0200`, `+02:00` or `Z` off the ends; return the microseconds ahead of UTC too."""
    ends = pc.utf8_slice_codeunits(text, -6, 2**31 - 1).dictionary_encode()
    known = [_offset(end) for end in ends.dictionary.to_pylist()]
    codes = np.asarray(ends.indices.fill_null(len(known)).to_numpy(), dtype=np.int64)
    ahead = np.array([micros for micros, _ in known] + [0], dtype=np.int64)[codes]
    lengths = np.array([length for _, length in known] + [0], dtype=np.int64)[codes]
    rest = text
    for length in np.unique(lengths):
        if length:
            cut = pc.utf8_rtrim(pc.utf8_slice_codeunits(text, 0, -int(length)), " ")
            rest = pc.if_else(pa.array(lengths == length), cut, rest)
    return rest, ahead, lengths > 0


def _offset(end: str) -> tuple[int, int]:
    """Return the offset at the end of a text in microseconds, and its length; 0, 0 for none."""
    if end.endswith("Z"):
        return 0, 1
    found = _OFFSET.search(end)
    if found is None:
        return 0, 0
    minutes = int(found[2]) * 60 + int(found[3])
    return minutes * 60 * _SECOND * (1 if found[1] == "+" else -1), len(found[0])


def _cut_fraction(
    text: pa.StringArray, mark: str
) -> tuple[pa.StringArray, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Cut the digits after the last `mark` off; return them as microseconds too."""
    parts = pc.split_pattern(text, mark, max_splits=1, reverse=True)
    two = as_mask(pc.equal(pc.list_value_length(parts), 2).fill_null(False))
    pairs = pc.if_else(pa.array(two), parts, pa.scalar(["", "0"], parts.type))
    rest, digits = pc.list_element(pairs, 0), pc.list_element(pairs, 1)
    good = two & as_mask(pc.match_substring_regex(digits, "^[0-9]{1,9}$").fill_null(False))
    digits = pc.if_else(pa.array(good), digits, "0")
    six = pc.utf8_slice_codeunits(pc.utf8_rpad(digits, 6, "0"), 0, 6)
    return rest, np.asarray(six.cast(pa.int64()).to_numpy(), dtype=np.int64), good


def _doubtful(text: pa.StringArray, times: pa.Array) -> npt.NDArray[np.bool_]:
    """Return which times may be the overflow of a month."""
    early = as_mask(pc.less_equal(pc.day(times), 3).fill_null(False))
    if early.any():
        matched = pc.match_substring_regex(text.filter(pa.array(early)), _LATE_DAYS)
        early[early] = as_mask(matched.fill_null(False))
    return early


def _read_by_pandas(text: pa.StringArray, form: str) -> FormedTimes:
    """Read each distinct text once: pandas is exact, and 30 times as slow as Arrow."""
    zoned = "%z" in form or "%Z" in form
    distinct = text.dictionary_encode()
    values = distinct.dictionary.to_pandas()
    times = pd.to_datetime(values, format=form, errors="coerce", exact=True, utc=True)
    micros = np.append(times.to_numpy("datetime64[us]").astype(np.int64), 0)
    read_well = times.notna().to_numpy()
    if "%j" in form:
        # Day 366 of a year of 365 is read as the first of the next.
        overflow = (times.dt.dayofyear == 1).to_numpy() & values.str.contains("366").to_numpy()
        read_well = read_well & ~overflow
    valid = np.append(read_well, False)
    codes = np.asarray(distinct.indices.fill_null(len(values)).to_numpy(), dtype=np.int64)
    read = valid[codes]
    return FormedTimes(np.where(read, micros[codes], 0), read, zoned)
