"""Detect the kinds of a column's values: times, numbers, ids, labels, categories."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from itertools import product
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from beam_fraud.records.event_times import EARLIEST_PLAUSIBLE
from beam_fraud.records.numbers import as_numbers
from beam_fraud.records.text import as_mask
from beam_fraud.records.time_settlement import contested, plausibly_read
from beam_fraud.records.times import Times, as_text, as_times
from beam_fraud.schema.duration import DAY, SECOND
from beam_fraud.schema.notation import (
    ABSENT,
    ANY_TIME,
    PLAIN,
    Negative,
    NumberNotation,
    TimeNotation,
)
from beam_fraud.sources.columns import is_text

Mask: TypeAlias = npt.NDArray[np.bool_]

#: Days, and times of day behind them, in the order in which they are tried.
_DAYS = (
    *("%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%Y", "%Y.%m.%d"),
    *("%d/%m/%y", "%m/%d/%y", "%y/%m/%d", "%d-%m-%y", "%m-%d-%y", "%d.%m.%y", "%Y-%m-%d"),
    *("%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d %Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y"),
    *("%A %d %B %Y", "%a %d %b %Y", "%Y %m %d", "%y-%m-%d", "%y.%m.%d"),
)
_CLOCKS = (
    *("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", " %H:%M:%S.%f", " %H:%M:%S,%f"),
    *("T%H:%M:%S", ", %H:%M", ", %H:%M:%S", " %H.%M", ", %H.%M.%S", " %H.%M.%S", ":%H:%M:%S"),
    *(" %H:%M:%S %z", " %H:%M:%S%z", " %H:%M %z"),
)
#: Forms without separators, which may be numbers, and all others.
_COMPACT = (
    *("%Y%m%d", "%Y%m%d%H%M", "%Y%m%d%H%M%S", "%d%m%Y", "%m%d%Y", "%y%m%d", "%d%m%y", "%m%d%y"),
    *("%y%m%d%H%M%S", "%y%j", "%Y%j"),
)
_WRITTEN = (
    *("rfc2822", "%y%j %H:%M:%S", "%Y%m%d %H:%M:%S", "%Y%m%d %H%M%S"),
    *("%H:%M:%S %d/%m/%Y", "%H:%M %d/%m/%Y", "%H:%M:%S %m/%d/%Y"),
    *(day + clock for day, clock in product(_DAYS, _CLOCKS)),
)
#: Numbers of values that a form must read before it is tried on all.
_FEW = (3, 100)
#: Separators of decimals and thousands.
_SEPARATORS = (
    *((".", ""), (".", ","), (",", ""), (",", "."), (",", " "), (".", " "), (",", "\xa0")),
    *((",", "\u202f"), (".", "'"), (".", "\u2019"), (".", "\xa0"), (",", "'")),
)
_MOST_SYMBOLS = 5
#: Share of the different values of a column that its format must read.
_MOST = 0.8
#: Three parts, two of them digits, in any text that is a date and no number.
_DATE = r"[0-9][^0-9]+([0-9]+|[A-Za-z]{3,})[^0-9]+[0-9]|[A-Za-z]{3,}[^0-9]+[0-9]+[^0-9]+[0-9]"
_CLOCK = r"^[0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?$"
#: Further spellings of an absent value that people use.
UNUSUAL_ABSENT = ("-", "--", "?", "unknown", "Unknown", "UNKNOWN", "none", "n/a", "#N/A", "\\N")


@dataclass(frozen=True)
class TimeGuess:
    """How a column writes times."""

    notation: TimeNotation
    #: Other formats that read as many values, some as another time.
    others: tuple[str, ...]
    #: First and last time, microseconds.
    first: int
    last: int
    #: Whether it has a time of day, and a zone.
    clock: bool
    naive: bool
    #: Whether the values are numbers.
    numbers: bool
    #: The different values that it does not read.
    unread: tuple[str, ...]


@dataclass(frozen=True)
class NumberGuess:
    """How a column writes numbers."""

    notation: NumberNotation
    #: Another notation that reads as many values, some as another number; None if there is none.
    other: NumberNotation | None
    #: Whether all are whole, and some are below zero.
    whole: bool
    negative: bool
    #: Whether none is below the one before it.
    rising: bool
    #: Least and greatest.
    least: float
    greatest: float
    #: The different values that it does not read.
    unread: tuple[str, ...]


@dataclass(frozen=True)
class Column:
    """A column of a sample."""

    name: str
    #: any[n], as read.
    values: pa.Array
    #: string[m] or the values' own type: the present ones.
    known: pa.Array
    #: Words of the name, in lower case.
    words: frozenset[str]
    #: Number of different values.
    distinct: int
    #: The most frequent values with their rows, up to four.
    frequent: tuple[tuple[str, int], ...]
    times: TimeGuess | None
    #: Whether it is a time of day alone, or a day alone.
    clock: bool
    numbers: NumberGuess | None

    @property
    def rows(self) -> int:
        """Number of present values."""
        return len(self.known)

    @property
    def absent(self) -> int:
        """Number of absent values."""
        return len(self.values) - len(self.known)

    @property
    def day(self) -> bool:
        """Return whether the values are dates without a time of day."""
        return self.times is not None and not self.times.clock and not self.times.numbers


def column_of(name: str, values: pa.Array) -> Column:
    """Describe a column."""
    known = values.drop_null()
    if is_text(known.type):
        known = known.cast(pa.string())
        spelled = pc.is_in(pc.ascii_trim_whitespace(known), value_set=pa.array(ABSENT))
        known = known.filter(pc.invert(spelled))
    counted = pc.value_counts(known).to_pylist() if len(known) else []
    counted.sort(key=lambda one: -one["counts"])
    frequent = tuple((str(one["values"]), int(one["counts"])) for one in counted[:4])
    words = frozenset(words_of(name))
    return Column(
        name,
        values,
        known,
        words,
        len(counted),
        frequent,
        time_guess(known, words),
        is_text(known.type) and len(known) > 0 and _all_match(known, _CLOCK),
        number_guess(known),
    )


def words_of(name: str) -> list[str]:
    """Return the words of a column's name in lower case.

    Example:
      >>> words_of("trans_dateTransTIME"), words_of("nameOrig"), words_of("TX_DATETIME")
      (['trans', 'date', 'trans', 'time'], ['name', 'orig'], ['tx', 'datetime'])
    """
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name)]


#: Words of columns of times that are numbers of days, as spreadsheets write them.
_OF_TIMES = frozenset(
    ("time", "date", "datetime", "timestamp", "at", "when", "booked", "day", "moment", "ts")
)


def time_guess(known: pa.Array, words: frozenset[str]) -> TimeGuess | None:
    """Return how a column writes times; None if it does not."""
    if not len(known) or pat.is_boolean(known.type) or pat.is_time(known.type):
        return None
    if pat.is_timestamp(known.type) or pat.is_date(known.type):
        read = as_times(known)
        good = plausibly_read(read)
        return _guess(read, good, known, ANY_TIME, ()) if good.any() else None
    distinct = known.unique()
    texts = as_text(distinct)
    plain = as_times(distinct)
    good = _plausible(plain)
    if _is_most(good):
        guess = _guess(plain, good, texts, ANY_TIME, ())
        return replace(guess, numbers=plain.assumed > 0)
    # In any notation: a date is none, because its groups are not of three digits.
    numbers = number_guess(known) is not None
    if not numbers and not _is_most(as_mask(pc.match_substring_regex(texts, _DATE))):
        return None
    reading: list[tuple[str, Times, Mask]] = []
    days = ("excel",) if words & _OF_TIMES else ()
    for form in (*_COMPACT, *days) if numbers else (*_COMPACT, *_WRITTEN):
        notation = _notation(form)
        first, few = (_plausible(as_times(texts[:count], notation)) for count in _FEW)
        if not first.any() or not _is_most(few):
            continue
        read = as_times(texts, notation)
        if _is_most(good := _plausible(read)):
            reading.append((form, read, good))
    if not reading:
        return None
    most = max(int(good.sum()) for _, _, good in reading)
    reading = [one for one in reading if one[2].sum() == most]
    form, read, good = reading[0]
    others = tuple(
        other
        for other, one, _ in reading[1:]
        if (one.micros != read.micros).any() or contested((form, other))
    )
    return replace(_guess(read, good, texts, _notation(form), others), numbers=numbers)


@cache
def _notation(form: str) -> TimeNotation:
    return TimeNotation((form,))


def _guess(
    times: Times, good: Mask, values: pa.Array, notation: TimeNotation, others: tuple[str, ...]
) -> TimeGuess:
    micros = times.micros[good]
    return TimeGuess(
        notation,
        others,
        int(micros.min()),
        int(micros.max()),
        bool((micros % DAY != 0).any()),
        bool(times.naive.any()),
        False,
        _unread(values, good),
    )


def _plausible(times: Times) -> Mask:
    """Return bool[n]: where there is a time that a card payment can have."""
    latest = int(datetime.now(UTC).timestamp()) * SECOND + DAY
    within = (times.micros >= EARLIEST_PLAUSIBLE) & (times.micros <= latest)
    return plausibly_read(times) & within


def _is_most(good: Mask) -> bool:
    return len(good) > 0 and bool(good.sum() >= _MOST * len(good))


def _unread(values: pa.Array, good: Mask) -> tuple[str, ...]:
    """Return the different values that are not read."""
    return tuple(map(str, values.filter(pa.array(~good)).unique().to_pylist()))


def number_guess(known: pa.Array) -> NumberGuess | None:
    """Return how a column writes numbers; None if it does not."""
    if not len(known) or pat.is_boolean(known.type) or pat.is_temporal(known.type):
        return None
    texts = known.unique() if is_text(known.type) else known
    guesses = []
    for notation in _notations(texts) if is_text(texts.type) else (PLAIN,):
        read = as_numbers(texts, notation)
        good = ~read.unreadable & np.isfinite(read.values)
        if _is_most(good):
            guesses.append((notation, read.values, good))
    if not guesses:
        return None
    most = max(int(good.sum()) for _, _, good in guesses)
    guesses = [one for one in guesses if one[2].sum() == most]
    notation, read_values, good = guesses[0]
    values = read_values[good]
    other = next((one for one, read, _ in guesses[1:] if (read[good] != values).any()), None)
    every = as_numbers(known, notation).values
    return NumberGuess(
        notation,
        other,
        bool((values == np.floor(values)).all()),
        bool((values < 0).any()),
        bool((np.diff(every) >= 0).all()),
        float(values.min()),
        float(values.max()),
        _unread(texts, good),
    )


def _notations(texts: pa.StringArray) -> Iterator[NumberNotation]:
    written = texts.filter(pc.match_substring_regex(texts, "[0-9]"))
    marks = pc.replace_substring_regex(
        written, r"[0-9.,'\x{2019}\s\x{a0}\x{202f}()+-]", ""
    ).unique()
    symbols = tuple(sorted(mark for mark in marks.to_pylist() if mark))
    if len(symbols) > _MOST_SYMBOLS or any(len(symbol) > 4 for symbol in symbols):
        return
    negative: Negative = "minus"
    if pc.any(pc.starts_with(texts, "(")).as_py():
        negative = "brackets"
    elif pc.any(pc.ends_with(texts, "-")).as_py():
        negative = "trailing"
    for decimal, thousands in _SEPARATORS:
        try:
            plain = NumberNotation(decimal, thousands, symbols)
        except ValueError:
            return
        yield replace(plain, negative=negative)


def _all_match(texts: pa.StringArray, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(texts, pattern)).as_py())
