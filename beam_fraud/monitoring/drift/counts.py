"""Counts of drift as bytes: the changes of a running process, which add up, and files of them."""

from __future__ import annotations

import hashlib
from collections import Counter as Multiset
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from beam_fraud.monitoring.drift.arrivals import Arrivals
from beam_fraud.monitoring.drift.summary import Counts, Layout, Summary

#: Model of the counts of what no model decides: dead letters.
NO_MODEL = ""
#: Forms of a piece: a layout, rows by the bins of layouts, or arrivals; and rows with arrivals.
_LAYOUT, _ROWS, _ARRIVALS, _BOTH = b"L", b"R", b"A", b"B"
#: Name of a file of counts in the directory of a monitor; patterns of the names of several
#: (`part_file`), and of all, whose counts add up.
FILE, PART_FILES, FILES = "counts.msgpack", "counts-*.msgpack", "counts*.msgpack"
_DIGITS = 12


class _Cells(msgspec.Struct, array_like=True, gc=False):
    """The bins of a day that have rows."""

    #: Places in [groups, bins], int32, distinct.
    places: bytes
    #: Rows of each, int64.
    rows: bytes


class _Described(msgspec.Struct, array_like=True):
    """A layout, by which rows of a model are counted."""

    key: str
    model_id: str
    layout: Layout


#: Type: key of a layout to days since 1970 to their bins.
_Days = dict[str, dict[int, _Cells]]
_DESCRIBED, _DAYS = msgspec.msgpack.Decoder(_Described), msgspec.msgpack.Decoder(_Days)
_PIECES = msgspec.msgpack.Decoder(list[bytes])
#: Type: minutes, and the newest event time of each.
_Minutes = tuple[list[int], list[int]]
_MINUTES = msgspec.msgpack.Decoder(_Minutes)
_TOGETHER = msgspec.msgpack.Decoder(tuple[_Days, _Minutes])


@dataclass(frozen=True)
class ModelCounts:
    """The counted rows of a model by one layout."""

    #: Key of the layout (`key_of`).
    key: str
    model_id: str
    summary: Summary


def part_file(number: int) -> str:
    """Return the name of a file of several, which begin with 0.

    >>> part_file(2)
    'counts-00002.msgpack'
    """
    return f"counts-{number:05}.msgpack"


def key_of(model_id: str, layout: Layout) -> str:
    """Return the key of a model's layout, which changes with its bins."""
    digest = hashlib.sha256(msgspec.msgpack.encode(layout)).hexdigest()[:_DIGITS]
    return f"{model_id} {digest}"


def layout_piece(key: str, model_id: str, layout: Layout) -> bytes:
    """Return the piece that describes a layout; needed once."""
    return _LAYOUT + msgspec.msgpack.encode(_Described(key, model_id, layout))


def rows_piece(key: str, summary: Summary) -> bytes:
    """Return the piece of a summary by a layout that another piece describes."""
    flat = summary.counts.reshape(len(summary.days), -1)
    return _ROWS + msgspec.msgpack.encode(
        {key: {day: _cells(flat[at]) for at, day in enumerate(summary.days.tolist())}}
    )


def arrivals_piece(arrivals: Arrivals) -> bytes:
    """Return the piece of the arrivals that later rows are compared with."""
    return _ARRIVALS + msgspec.msgpack.encode(_minutes(arrivals))


def arrivals_in(pieces: Sequence[bytes]) -> Arrivals:
    """Return the arrivals of pieces, in any order.

    Raises:
      ValueError: a piece is damaged.
    """
    found = (_arrivals_of(piece) for piece in pieces)
    return Arrivals.merged([one for one in found if one is not None]).latest()


def merged(pieces: Sequence[bytes], since: int) -> bytes:
    """Return one piece for pieces of rows and of arrivals, in any order.

    Args:
      pieces: pieces of `rows_piece`, `arrivals_piece` or `merged`.
      since: first day to keep, days since 1970.

    Raises:
      ValueError: one is damaged.
    """
    parts: dict[str, dict[int, list[_Cells]]] = {}
    for piece in pieces:
        for key, of_days in _days_of(piece).items():
            for day, cells in of_days.items():
                if day >= since:
                    parts.setdefault(key, {}).setdefault(day, []).append(cells)
    days = {
        key: {day: _added(cells) for day, cells in sorted(of_days.items())}
        for key, of_days in parts.items()
    }
    arrivals = arrivals_in(pieces)
    if not len(arrivals.minutes):
        return _ROWS + msgspec.msgpack.encode(days)
    return _BOTH + msgspec.msgpack.encode((days, _minutes(arrivals)))


class RunningCounts:
    """The sum of pieces of which some are added or merged from time to time.

    What has changed is added or subtracted; the rest is not looked at again. For one thread.
    """

    def __init__(self) -> None:
        self._pieces = Multiset[bytes]()
        self._described: dict[str, tuple[bytes, _Described]] = {}
        self._days: _Days = {}
        #: Dense counts by key, of those that were asked for since they changed.
        self._summaries: dict[str, Summary] = {}

    def update(self, pieces: Sequence[bytes]) -> bool:
        """Take the pieces of now; return whether they differ from those of before.

        Raises:
          ValueError: a piece is damaged, or its layout is missing; nothing has changed.
        """
        now = Multiset(pieces)
        added, removed = now - self._pieces, self._pieces - now
        if not added and not removed:
            return False
        described = dict(self._described)
        for piece in added:
            described |= {key: (piece, one) for key, one in layouts_in([piece]).items()}
        changed: dict[str, dict[int, list[_Cells]]] = {}
        for several, sign in ((added, 1), (removed, -1)):
            for piece, times in several.items():
                for key, days in _days_of(piece).items():
                    for day, cells in days.items():
                        change = changed.setdefault(key, {}).setdefault(day, [])
                        change.append(_times(cells, sign * times))
        if unknown := changed.keys() - described.keys():
            raise ValueError(f"no layout of {min(unknown)}")
        for key, changes in changed.items():
            known = self._days.setdefault(key, {})
            for day, change in changes.items():
                known[day] = _added([*([known[day]] if day in known else []), *change])
                if not known[day].places:
                    del known[day]
            if not known:
                del self._days[key]
            self._summaries.pop(key, None)
        self._pieces, self._described = now, described
        return True

    def counted(self) -> list[ModelCounts]:
        """Return all counts, by model and layout.

        Raises:
          ValueError: a bin is not that of its layout.
        """
        for key, days in self._days.items():
            if key not in self._summaries:
                self._summaries[key] = _summary(self._described[key][1].layout, days)
        return [
            ModelCounts(key, self._described[key][1].model_id, self._summaries[key])
            for key in self._days
        ]

    def encoded(self) -> bytes:
        """Return the counts as a file: their layouts once, and one piece of rows."""
        days = {key: dict(sorted(days.items())) for key, days in self._days.items()}
        rows = [_ROWS + msgspec.msgpack.encode(days)] if days else []
        layouts = [piece for piece, _ in self._described.values()]
        return msgspec.msgpack.encode([*layouts, *rows])


def counted(pieces: Sequence[bytes]) -> list[ModelCounts]:
    """Return all counts of pieces, by model and layout.

    Raises:
      ValueError: a piece is damaged, or its layout is missing.
    """
    running = RunningCounts()
    running.update(pieces)
    return running.counted()


def layouts_in(pieces: Sequence[bytes]) -> Mapping[str, _Described]:
    """Return the described layouts by key.

    Raises:
      ValueError: a piece is damaged.
    """
    found = (_layout(piece[1:]) for piece in pieces if piece[:1] == _LAYOUT)
    return {one.key: one for one in found}


def days_in(pieces: Sequence[bytes]) -> Iterator[int]:
    """Yield the days of pieces, with repetitions.

    Raises:
      ValueError: a piece is damaged.
    """
    for piece in pieces:
        for days in _days_of(piece).values():
            yield from days


def encoded(pieces: Sequence[bytes]) -> bytes:
    """Return pieces as a file: their layouts once, and one piece of rows.

    Raises:
      ValueError: a piece is damaged.
    """
    running = RunningCounts()
    running.update(pieces)
    return running.encoded()


def decoded(data: bytes) -> list[bytes]:
    """Return the pieces of a file; the inverse of `encoded`.

    Raises:
      ValueError: it is damaged.
    """
    try:
        return _PIECES.decode(data)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None


def _days_of(piece: bytes) -> _Days:
    """Return the rows of a piece; none of one of another form."""
    try:
        if piece[:1] == _ROWS:
            return _DAYS.decode(piece[1:])
        return _TOGETHER.decode(piece[1:])[0] if piece[:1] == _BOTH else {}
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None


def _arrivals_of(piece: bytes) -> Arrivals | None:
    """Return the arrivals of a piece; None of one of another form."""
    try:
        if piece[:1] == _ARRIVALS:
            minutes, newest = _MINUTES.decode(piece[1:])
        elif piece[:1] == _BOTH:
            _, (minutes, newest) = _TOGETHER.decode(piece[1:])
        else:
            return None
        if len(minutes) != len(newest):
            raise ValueError("minutes without times")
        return Arrivals(np.array(minutes, np.int64), np.array(newest, np.int64))
    except (msgspec.MsgspecError, OverflowError) as error:
        raise ValueError(str(error)) from None


def _minutes(arrivals: Arrivals) -> _Minutes:
    return arrivals.minutes.tolist(), arrivals.newest.tolist()


def _layout(data: bytes) -> _Described:
    try:
        return _DESCRIBED.decode(data)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None


def _cells(counts: Counts) -> _Cells:
    places = np.flatnonzero(counts)
    return _Cells(places.astype(np.int32).tobytes(), counts[places].tobytes())


def _pair(cells: _Cells) -> tuple[npt.NDArray[np.int32], Counts]:
    places, rows = np.frombuffer(cells.places, np.int32), np.frombuffer(cells.rows, np.int64)
    if len(places) != len(rows):
        raise ValueError("bins without rows")
    return places, rows


def _added(parts: Sequence[_Cells]) -> _Cells:
    if len(parts) == 1:
        return parts[0]
    places, rows = zip(*map(_pair, parts), strict=True)
    distinct, at = np.unique(np.concatenate(places), return_inverse=True)
    sums = np.zeros(len(distinct), np.int64)
    np.add.at(sums, at, np.concatenate(rows))
    there = sums != 0
    return _Cells(distinct[there].astype(np.int32).tobytes(), sums[there].tobytes())


def _times(cells: _Cells, factor: int) -> _Cells:
    """Return bins with so many times as many rows.

    Raises:
      ValueError: they are damaged.
    """
    places, rows = _pair(cells)
    return cells if factor == 1 else _Cells(places.tobytes(), (rows * factor).tobytes())


def _summary(layout: Layout, of_days: Mapping[int, _Cells]) -> Summary:
    days = np.array(sorted(of_days), np.int64)
    counts = np.zeros((len(days), len(layout.groups) * layout.width), np.int64)
    for at, day in enumerate(days.tolist()):
        places, rows = _pair(of_days[day])
        if len(places) and not 0 <= places.min() <= places.max() < counts.shape[1]:
            raise ValueError("a bin that the layout lacks")
        counts[at, places] = rows
    return Summary(layout, days, counts.reshape(len(days), len(layout.groups), layout.width))
