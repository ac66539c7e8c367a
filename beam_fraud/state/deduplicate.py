"""Drop transactions with a repeated id within a horizon."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.errors import Code, FraudError
from beam_fraud.features.event_clock import NEVER, ClockState, EventClock
from beam_fraud.features.hashing import IdHash, WideHashes, other_hash
from beam_fraud.features.velocity.state.state_delta import joined_columns
from beam_fraud.schema.event_time import event_micros
from beam_fraud.sources.raw import is_of_labels
from beam_fraud.state.shard import Delta, Effects

Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]

#: First word of an empty slot.
_EMPTY = np.uint64(0)
#: Maximum load of the table: above it, look-ups need many steps.
_FULLEST = 0.6
_FEWEST_LOG2 = 10
#: Rows up to which each goes its own steps: each step of many takes a dozen calls.
_FEW = 12
#: Slots moved to a new table at once; some arrays of this size are in memory then.
_MOVED = 1 << 18


class IdTable:
    """A hash table of 128-bit hashes of ids (`IdHash.wide`).

    It takes 27 to 54 bytes per id, and half as much again for a moment when it grows.
    `records.duplicates.SeenIds` takes less, but has to search all its runs: with blocks of a
    thousand rows among a million ids that takes three times as long.

    The upper bits of a hash's first word give its slot; if it is taken, the lower bits give the
    steps to the first free slot. Without the key, ids that collide cannot be chosen.

    Example:
      >>> import numpy as np
      >>> table = IdTable()
      >>> table.add(np.array([[70, 80, 70], [1, 1, 1]], dtype=np.uint64)).tolist()
      [True, True, False]
      >>> table.has(np.array([[80, 80], [1, 2]], dtype=np.uint64)).tolist()
      [True, False]
    """

    def __init__(self) -> None:
        self._allocate(_FEWEST_LOG2)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self._slots.nbytes

    def has(self, hashes: WideHashes) -> Mask:
        """Return which of `hashes` (uint64[2, n]) are in the table; bool[n]."""
        first, second = _marked(hashes)
        if len(first) == 1:
            return np.array([self.has_one(int(first[0]), int(second[0]))])
        known = np.zeros(len(first), dtype=bool)
        rows, places = np.arange(len(first)), self._places(first)
        while len(rows) > _FEW:
            same, occupied = self._compared(places, first, second)
            known[rows[same]] = True
            rows, first, second, places = _onward(occupied & ~same, rows, first, second, places)
            places = self._next(places, first)
        for row, words in zip(rows.tolist(), _both(first, second), strict=True):
            known[row] = self._find(*words)[0]
        return known

    def add(self, hashes: WideHashes) -> Mask:
        """Add the hashes that are not in the table.

        Args:
          hashes: uint64[2, n].

        Returns:
          bool[n]: True for the first of equal hashes that were not in the table.
        """
        first, second = _marked(hashes)
        if len(first) == 1:
            return np.array([self.add_one(int(first[0]), int(second[0]))])
        order = np.sort(first)
        if not (order[1:] == order[:-1]).any():
            return self._add(first, second)
        rows = np.lexsort((second, first))
        again = (first[rows[1:]] == first[rows[:-1]]) & (second[rows[1:]] == second[rows[:-1]])
        rows = rows[np.concatenate(([True], ~again))]
        new = np.zeros(len(first), dtype=bool)
        new[rows] = self._add(first[rows], second[rows])
        return new

    def has_one(self, first: int, second: int) -> bool:
        """Return whether a hash is in the table."""
        return self._find(max(first, 1), second)[0]

    def add_one(self, first: int, second: int) -> bool:
        """Add one hash; return whether it was new."""
        first = max(first, 1)
        if self._taken + 1 > len(self._slots) * _FULLEST:
            self._grow(1)
        there, place = self._find(first, second)
        if not there:
            self._slots[place, 0], self._slots[place, 1] = first, second
            self._taken += 1
        return not there

    def _find(self, first: int, second: int) -> tuple[bool, int]:
        """Return whether a hash is in the table, and its slot, or the free one for it.

        The steps of `_places` and `_next`, without arrays.
        """
        slots, last = self._slots, len(self._slots) - 1
        place, step = first >> self._bits, first | 1
        # Of an empty slot, 0.
        while held := slots.item(place, 0):
            if held == first and slots.item(place, 1) == second:
                return True, place
            place = (place + step) & last
        return False, place

    def _add(self, first: npt.NDArray[np.uint64], second: npt.NDArray[np.uint64]) -> Mask:
        """Add distinct hashes without an empty first word."""
        if self._taken + len(first) > len(self._slots) * _FULLEST:
            self._grow(len(first))
        new = np.zeros(len(first), dtype=bool)
        rows, places = np.arange(len(first)), self._places(first)
        while len(rows) > _FEW:
            free = np.flatnonzero(self._slots[places, 0] == _EMPTY)
            self._slots[places[free], 0] = first[free]
            self._slots[places[free], 1] = second[free]
            new[rows[free]] = True
            # Of several hashes for one slot, the last one has it; the others step on.
            same, _ = self._compared(places, first, second)
            new[rows[~same]] = False
            rows, first, second, places = _onward(~same, rows, first, second, places)
            places = self._next(places, first)
        for row, words in zip(rows.tolist(), _both(first, second), strict=True):
            there, place = self._find(*words)
            if not there:
                self._slots[place] = words
                new[row] = True
        self._taken += int(np.count_nonzero(new))
        return new

    def _compared(
        self, places: Places, first: npt.NDArray[np.uint64], second: npt.NDArray[np.uint64]
    ) -> tuple[Mask, Mask]:
        """Return which slots hold the hashes, and which are taken; bool[n] each."""
        there = self._slots[places, 0]
        same = there == first
        held = np.flatnonzero(same)
        same[held] = self._slots[places[held], 1] == second[held]
        return same, there != _EMPTY

    def _places(self, first: npt.NDArray[np.uint64]) -> Places:
        return (first >> self._shift).view(np.int64)

    def _next(self, places: Places, first: npt.NDArray[np.uint64]) -> Places:
        return (places + (first.view(np.int64) | 1)) & (len(self._slots) - 1)

    def _grow(self, more: int) -> None:
        """Move all hashes to a larger table."""
        before, log2 = self._slots, _FEWEST_LOG2
        while (1 << log2) * _FULLEST < self._taken + more:
            log2 += 1
        self._allocate(log2)
        for start in range(0, len(before), _MOVED):
            piece = before[start : start + _MOVED]
            piece = piece[piece[:, 0] != _EMPTY]
            self._add(piece[:, 0].copy(), piece[:, 1].copy())

    def _allocate(self, log2: int) -> None:
        #: Both words of a hash are adjacent, because they are compared together.
        self._slots = np.zeros((1 << log2, 2), dtype=np.uint64)
        self._bits = 64 - log2
        self._shift = np.uint64(self._bits)
        self._taken = 0


def _marked(hashes: WideHashes) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Return first words, none equal to that of an empty slot, and second words."""
    return np.maximum(hashes[0], np.uint64(1)), hashes[1]


def _both(
    first: npt.NDArray[np.uint64], second: npt.NDArray[np.uint64]
) -> Iterator[tuple[int, int]]:
    """Return an iterator over pairs of words."""
    return zip(first.tolist(), second.tolist(), strict=True)


def _onward(
    some: Mask,
    rows: Places,
    first: npt.NDArray[np.uint64],
    second: npt.NDArray[np.uint64],
    places: Places,
) -> tuple[Places, npt.NDArray[np.uint64], npt.NDArray[np.uint64], Places]:
    indices = np.flatnonzero(some)
    return rows[indices], first[indices], second[indices], places[indices]


_ALL = -(1 << 63)
#: In place of the start of a generation: the state of the clock follows (`ClockState.words`).
_CLOCK = _ALL + 1
_WORD = 8
#: A segment of one id, under a key.
_ONE_ID = struct.Struct("<qqqQQ")


class DeduplicateShard:
    """Drop transactions whose id it has seen; the first wins.

    An id is remembered until event time has advanced by at least `horizon`, and at most twice that:
    ids are stored in generations, a new one starts once the clock is `horizon` after the start of
    the last, and two are kept. The bulk of the rows moves the clock (`EventClock`), so a few rows
    far ahead expire nothing.

    Two ids are equal if all 128 bits of their hashes are. The state consists of segments of 64-bit
    words: start of a generation (int64 microseconds), number of ids inverted (~n), fingerprint of
    the hash's key, first words of the hashes, second words. A stream of a version without keys
    continues without one: its segments are the start, n, and as many words. Where the clock moves,
    its state follows (`_CLOCK`): a clock that began again would follow the first rows after a
    restart, though they be far ahead. A restored clock lacks the rows since:
    fewer than a block of new ones, and the repeated ones beside them. A changed horizon applies
    from the next generation on.

    Args:
      horizon: microseconds of event time.
      count: callback with the number of dropped rows, if any.
      hashing: id hash of the stream.
      clock: the event clock; None for a new one.
    """

    def __init__(
        self,
        horizon: int,
        count: Callable[[int], None],
        hashing: IdHash,
        clock: EventClock | None = None,
    ) -> None:
        self._horizon = horizon
        self._count = count
        self._hash = hashing
        self._clock = clock or EventClock()
        #: Blocks of the clock that the deltas include.
        self._clocked = 0
        #: Time of the next generation; None before the clock starts.
        self._due: int | None = None
        #: Starts and ids of the stored generations: at most two, the older first.
        self._starts: list[int] = []
        self._seen: list[IdTable] = []

    @property
    def needed_from(self) -> int:
        """Start of the older generation, the `newest` time of its deltas."""
        return self._starts[0] if len(self._starts) > 1 else _ALL

    @property
    def waiting(self) -> bool:
        return False

    def restore(self, deltas: Sequence[bytes]) -> Effects:
        """Restore the ids of the two newest generations."""
        segments, clock = self._segments(deltas)
        for start in sorted(segments)[-2:]:
            self._begin(start)
            for hashes in segments[start]:
                self._seen[-1].add(hashes)
        if clock is not None:
            self._clock.resume(clock)
            self._clocked = self._clock.completed
        return Effects()

    def take(self, batch: pa.RecordBatch) -> Effects:
        """Return transactions without repeated ids; labels unchanged."""
        if is_of_labels(batch):
            return Effects([batch])
        if not batch.num_rows:
            return Effects()
        begun = self._begin_in_time(event_micros(batch))
        hashes = self._hash.wide(batch.column("transaction_id"))
        first = self._first(hashes)
        if not first.all():
            self._count(int(np.count_nonzero(~first)))
            batch, hashes = batch.filter(pa.array(first)), hashes[:, first]
        if not batch.num_rows and not begun:
            return Effects()
        delta = self._delta([hashes])
        return Effects(rows=[batch] if batch.num_rows else [], deltas=[delta])

    def has(self, words: tuple[int, int]) -> bool:
        """Return whether the id of a hash was seen before."""
        return any(generation.has_one(*words) for generation in self._seen)

    def take_new(self, time: int, words: tuple[int, int]) -> Delta:
        """Do what `take` does for one transaction whose id is new.

        Args:
          time: its event time, microseconds.
          words: both words of the hash of its id, of a key.
        """
        self._clock.observe_one(time)
        self._begin_if_due(time)
        self._seen[-1].add_one(*words)
        if self._clock.completed != self._clocked:
            return self._delta([np.array(words, dtype=np.uint64).reshape(2, 1)])
        start = self._starts[-1]
        return Delta(_ONE_ID.pack(start, ~1, self._hash.fingerprint, *words), newest=start)

    def take_all_new(self, times: npt.NDArray[np.int64], hashes: WideHashes) -> Delta:
        """Do the same for n > 0 transactions with different ids (uint64[2, n]), all new."""
        self._begin_in_time(times)
        self._seen[-1].add(hashes)
        return self._delta([hashes])

    def known(self, transactions: pa.RecordBatch) -> Mask:
        """Return which ids were seen before; bool[n]."""
        hashes = self._hash.wide(transactions.column("transaction_id"))
        known = np.zeros(len(transactions), dtype=bool)
        for generation in self._seen:
            known |= generation.has(hashes)
        return known

    def tick(self, now: float) -> Effects:
        return Effects()

    def finish(self) -> Effects:
        return Effects()

    def merge(self, deltas: Sequence[bytes]) -> bytes:
        """Merge the segments of each generation, without expired ones."""
        segments, clock = self._segments(deltas)
        needed = [start for start in sorted(segments) if start >= self.needed_from]
        state = b"" if clock is None else _clock_to_bytes(clock)
        return b"".join([*(self._segment(start, segments[start]) for start in needed), state])

    def _begin_in_time(self, times: npt.NDArray[np.int64]) -> bool:
        """Start a generation if it is due; return whether it was."""
        self._clock.observe(times)
        return self._begin_if_due(None if self._starts else int(np.sort(times)[len(times) // 2]))

    def _begin_if_due(self, first: int | None) -> bool:
        """Start a generation by the clock, or by the time of the first rows."""
        now = self._clock.at
        if not self._starts:
            assert first is not None
            self._begin(first if now == NEVER else now)
            return True
        if now == NEVER:
            return False
        if self._due is None:
            # The start may stem from a row far ahead, in the state of an earlier version.
            self._due = min(self._starts[-1], now) + self._horizon
        if now < self._due:
            return False
        # Starts identify generations, so they increase.
        self._begin(max(now, self._starts[-1] + 1))
        self._due = now + self._horizon
        return True

    def _begin(self, start: int) -> None:
        """Start a generation, and drop the one before the last."""
        self._starts = [*self._starts[-1:], start]
        self._seen = [*self._seen[-1:], IdTable()]

    def _first(self, hashes: WideHashes) -> npt.NDArray[np.bool_]:
        """Return which ids are new, and add them to the newest generation."""
        *older, newest = self._seen
        if not older:
            return newest.add(hashes)
        first = ~older[0].has(hashes)
        if first.all():
            return newest.add(hashes)
        first[first] = newest.add(hashes[:, first])
        return first

    def _delta(self, hashes: Sequence[WideHashes]) -> Delta:
        """Return new ids of the newest generation, with the clock if it moved."""
        start = self._starts[-1]
        data = self._segment(start, hashes)
        if self._clock.completed != self._clocked:
            self._clocked = self._clock.completed
            data += _clock_to_bytes(self._clock.state)
        return Delta(data, newest=start)

    def _segment(self, start: int, hashes: Sequence[WideHashes]) -> bytes:
        rows = sum(part.shape[1] for part in hashes)
        header = [start, ~rows, self._hash.fingerprint] if self._hash.keyed else [start, rows]
        words = [part[word] for word in range(self._hash.words) for part in hashes]
        return b"".join((np.array(header, np.int64).tobytes(), *(word.tobytes() for word in words)))

    def _segments(
        self, deltas: Sequence[bytes]
    ) -> tuple[dict[int, list[WideHashes]], ClockState | None]:
        """Return the hashes per generation start, in pieces, and the last state of the clock."""
        segments: dict[int, list[WideHashes]] = {}
        clock = None
        for form, alike in groupby(deltas, self._form):
            several = list(alike)
            if form is not None:
                # The check of the first covers all.
                start, _, _ = self._read(_words(several[0]))
                segments.setdefault(start, []).append(self._hashes(several, len(form)))
                continue
            words = _words(b"".join(several))
            while len(words):
                if words[0] == _CLOCK:
                    clock, words = _clock_of(words)
                    continue
                start, hashes, words = self._read(words)
                segments.setdefault(start, []).append(hashes)
        return segments, clock

    def _form(self, delta: bytes) -> bytes | None:
        """Return what is before the hashes in a delta of one segment; None for others.

        The number of ids is left out, as it follows from the length.
        """
        header = (3 if self._hash.keyed else 2) * _WORD
        rows = int.from_bytes(delta[_WORD : 2 * _WORD], "little", signed=True)
        rows = ~rows if self._hash.keyed else rows
        if rows < 1 or len(delta) != header + rows * self._hash.words * _WORD:
            return None
        return delta[:_WORD] + bytes(_WORD) + delta[2 * _WORD : header]

    def _hashes(self, deltas: Sequence[bytes], header: int) -> WideHashes:
        """Return the hashes of deltas of one form."""
        words = joined_columns(deltas, header, self._hash.words)
        hashes = np.zeros((2, len(words[0])), dtype=np.uint64)
        for word, column in enumerate(words):
            hashes[word] = column
        return hashes

    def _read(self, words: npt.NDArray[np.int64]) -> tuple[int, WideHashes, npt.NDArray[np.int64]]:
        """Return the first segment, and the remaining words."""
        keyed = int(words[min(1, len(words) - 1)]) < 0
        header = 3 if keyed else 2
        if len(words) < header:
            raise _damaged()
        if keyed != self._hash.keyed or (keyed and int(words[2]) != self._hash.fingerprint):
            raise other_hash("the ids seen so far")
        rows = ~int(words[1]) if keyed else int(words[1])
        end = header + rows * self._hash.words
        if end > len(words):
            raise _damaged()
        hashes = np.zeros((2, rows), dtype=np.uint64)
        stored = words[header:end].view(np.uint64)
        hashes[: self._hash.words] = stored.reshape(self._hash.words, rows)
        return int(words[0]), hashes, words[end:]


def _clock_to_bytes(clock: ClockState) -> bytes:
    return np.array([_CLOCK, *clock.words()], np.int64).tobytes()


def _clock_of(words: npt.NDArray[np.int64]) -> tuple[ClockState, npt.NDArray[np.int64]]:
    """Return the state of a clock, and the remaining words."""
    try:
        return ClockState.of_words(words[1:])
    except ValueError:
        raise _damaged() from None


def _words(data: bytes) -> npt.NDArray[np.int64]:
    if len(data) % _WORD:
        raise _damaged()
    return np.frombuffer(data, np.int64)


def _damaged() -> FraudError:
    return FraudError(
        "the stream's state: the ids seen so far are damaged; start again with another --out",
        Code.STATE_UNREADABLE,
    )
