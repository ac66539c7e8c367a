"""Counts of drift as bytes: the changes of a running process, which add up, and files of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from beam_fraud.monitoring.drift.summary import Counts, Layout, Summary

#: Forms of a piece: a layout, or rows by the bins of layouts.
_LAYOUT, _ROWS = b"L", b"R"
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


@dataclass(frozen=True)
class ModelCounts:
    """The counted rows of a model by one layout."""

    model_id: str
    summary: Summary


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


def merged(pieces: Sequence[bytes], since: int) -> bytes:
    """Return one piece for pieces of rows, in any order.

    Args:
      pieces: pieces of `rows_piece` or `merged`.
      since: first day to keep, days since 1970.

    Raises:
      ValueError: one is damaged.
    """
    parts: dict[str, dict[int, list[_Cells]]] = {}
    for piece in pieces:
        for key, days in _decoded(piece[1:]).items():
            for day, cells in days.items():
                if day >= since:
                    parts.setdefault(key, {}).setdefault(day, []).append(cells)
    return _ROWS + msgspec.msgpack.encode(
        {
            key: {day: _added(cells) for day, cells in sorted(days.items())}
            for key, days in parts.items()
        }
    )


def counted(pieces: Sequence[bytes]) -> list[ModelCounts]:
    """Return all counts of pieces, by model and layout.

    Raises:
      ValueError: a piece is damaged, or its layout is missing.
    """
    described, days = layouts_in(pieces), dict[str, dict[int, list[_Cells]]]()
    for piece in pieces:
        if piece[:1] == _ROWS:
            for key, of_days in _decoded(piece[1:]).items():
                for day, cells in of_days.items():
                    days.setdefault(key, {}).setdefault(day, []).append(cells)
    if unknown := days.keys() - described.keys():
        raise ValueError(f"no layout of {min(unknown)}")
    return [
        ModelCounts(described[key].model_id, _summary(described[key].layout, of_days))
        for key, of_days in days.items()
    ]


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
        if piece[:1] == _ROWS:
            for days in _decoded(piece[1:]).values():
                yield from days


def encoded(pieces: Sequence[bytes]) -> bytes:
    """Return pieces as a file: their layouts once, and one piece of rows.

    Raises:
      ValueError: a piece is damaged.
    """
    layouts = {
        key: piece for piece in pieces if piece[:1] == _LAYOUT for key in layouts_in([piece])
    }
    rows = [piece for piece in pieces if piece[:1] == _ROWS]
    return msgspec.msgpack.encode([*layouts.values(), *([merged(rows, _EVER)] if rows else [])])


def decoded(data: bytes) -> list[bytes]:
    """Return the pieces of a file; the inverse of `encoded`.

    Raises:
      ValueError: it is damaged.
    """
    try:
        return _PIECES.decode(data)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None


_EVER = -(1 << 62)


def _decoded(data: bytes) -> _Days:
    try:
        return _DAYS.decode(data)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None


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
    return _Cells(distinct.astype(np.int32).tobytes(), sums.tobytes())


def _summary(layout: Layout, of_days: Mapping[int, Sequence[_Cells]]) -> Summary:
    days = np.array(sorted(of_days), np.int64)
    counts = np.zeros((len(days), len(layout.groups) * layout.width), np.int64)
    for at, day in enumerate(days.tolist()):
        for cells in of_days[day]:
            places, rows = _pair(cells)
            if len(places) and not 0 <= places.min() <= places.max() < counts.shape[1]:
                raise ValueError("a bin that the layout lacks")
            counts[at, places] += rows
    return Summary(layout, days, counts.reshape(len(days), len(layout.groups), layout.width))
