"""Known frauds: labels are added, repeated, revoked and expired."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import Code, FraudError
from beam_fraud.features.hashing import Hashes
from beam_fraud.features.velocity.key_rows import Frauds
from beam_fraud.features.velocity.state.key_times import Frame, Integers, KeyTimes, position_of

#: Later than any event.
_FAR = np.iinfo(np.int64).max >> 1


def due(frauds: Frauds, delay: int) -> Integers:
    """Return when frauds start to count in windows with this delay (microseconds), int64[m]."""
    return np.maximum(frauds.time + delay, frauds.visible)


@dataclass(frozen=True)
class FraudIndex:
    """A sorted index of frauds: all by event time, and those not yet visible."""

    #: uint64[keys], ascending; a key's position is its slot.
    keys: Hashes
    #: By event time.
    events: KeyTimes
    #: Frauds that become visible after the shortest delay, by the time they do.
    slow: KeyTimes
    #: int64[slow], their event times.
    slow_event: Integers

    @classmethod
    def of(cls, frauds: Frauds, delay: int) -> FraudIndex:
        """Build the index.

        Args:
          frauds: frauds in any order.
          delay: shortest delay of any window, microseconds.

        Raises:
          FraudError: there are too many keys with frauds.
        """
        keys, slots = np.unique(frauds.key, return_inverse=True)
        slow = np.flatnonzero(frauds.visible > frauds.time + delay)
        keyed, order = _sorted(slots[slow], frauds.visible[slow])
        return cls(keys, _sorted(slots, frauds.time)[0], keyed, frauds.time[slow][order])

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        arrays = (self.keys, self.events.numbers, self.slow.numbers, self.slow_event)
        return sum(array.nbytes for array in arrays)

    def counts(
        self, keys: Hashes, times: Integers, windows: Sequence[tuple[int, int]]
    ) -> list[Integers]:
        """Count the known frauds in windows.

        Args:
          keys: uint64[n].
          times: int64[n], now.
          windows: ages in microseconds of the windows' starts and ends.

        Returns:
          int64[n] per window.
        """
        counts = [np.zeros(len(keys), dtype=np.int64) for _ in windows]
        if not len(self.keys):
            return counts
        slots = np.minimum(self.keys.searchsorted(keys), len(self.keys) - 1)
        rows = np.flatnonzero(self.keys[slots] == keys)
        if not len(rows):
            return counts
        slots, times = slots[rows], times[rows]
        ages = np.array(windows, dtype=np.int64).reshape(-1, 1)
        positions = self.events.positions(slots, times - ages).reshape(len(windows), 2, -1)
        for count, (first, last) in zip(counts, positions, strict=True):
            count[rows] = last - first
        if len(self.slow):
            hidden, event = self._not_yet_visible(slots, times)
            age = times[hidden] - event
            for count, (start, end) in zip(counts, windows, strict=True):
                unseen = hidden[(age < start) & (age >= end)]
                count[rows] -= np.bincount(unseen, minlength=len(rows))
        return counts

    def counts_of(self, key: int, time: int, windows: Sequence[tuple[int, int]]) -> list[int]:
        """Return the same for one transaction."""
        slot = position_of(self.keys, key)
        if slot is None:
            return [0] * len(windows)
        if len(self.slow):
            keys, times = np.array([key], dtype=np.uint64), np.array([time], dtype=np.int64)
            return [int(count[0]) for count in self.counts(keys, times, windows)]
        frame, numbers = self.events.frame, self.events.numbers.data
        most, base = (1 << frame.bits) - 1, slot << frame.bits
        # As `KeyTimes.positions` bounds them.
        found = [
            bisect_right(numbers, base + min(max(time - age - frame.origin, -1), most))
            for ages in windows
            for age in ages
        ]
        return [last - first for first, last in zip(found[::2], found[1::2], strict=True)]

    def _not_yet_visible(self, slots: Integers, times: Integers) -> tuple[Integers, Integers]:
        """Return the frauds of the rows' keys that are not visible at the rows' times.

        Returns:
          int64[h] each: position of the row, event time of the fraud.
        """
        moments = np.stack((times, np.full_like(times, _FAR)))
        first, end = self.slow.positions(slots, moments)
        sizes = end - first
        row = np.repeat(np.arange(len(slots)), sizes)
        frauds = np.arange(len(row)) + np.repeat(first - (np.cumsum(sizes) - sizes), sizes)
        return row, self.slow_event[frauds]


def _sorted(slots: Integers, times: Integers) -> tuple[KeyTimes, Integers]:
    first, last = (int(times.min()), int(times.max())) if len(times) else (0, 0)
    frame = Frame.around(first, last)
    if len(slots) and int(slots.max()) >= frame.capacity:
        raise FraudError(
            "too many keys with frauds for one state: use more shards", Code.VELOCITY_LIMIT
        )
    numbers = frame.numbers(slots, times)
    order = np.argsort(numbers, kind="stable")
    return KeyTimes(frame, numbers[order]), order


Mask = npt.NDArray[np.bool_]

_NO_IDS = np.zeros(0, dtype=np.uint64)


class KnownFrauds:
    """Labelled frauds: rare, so they are stored whole and reindexed when some come due.

    A fraud counts in a window from `max(event time + delay, visible)` on. The old index is valid
    until the first new fraud is due, or one is revoked.
    """

    def __init__(self, delay: int) -> None:
        """Start empty.

        Args:
          delay: shortest delay of any feature that counts frauds, microseconds.
        """
        self._delay = delay
        nothing = np.zeros(0, dtype=np.int64)
        self._frauds = Frauds(_NO_IDS, nothing, nothing)
        #: Hashes of their transactions' ids, and a mask of those with an id.
        self._ids, self._named = _NO_IDS, np.zeros(0, dtype=bool)
        #: Later labels, and a mask of fraud labels.
        self._new: list[tuple[Frauds, Mask]] = []
        self._index: FraudIndex | None = None
        #: Time at which the first unindexed fraud is due.
        self._due = _FAR

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        frauds, index = self._frauds, self._index
        total = frauds.key.nbytes + frauds.time.nbytes + frauds.visible.nbytes
        total += self._ids.nbytes + self._named.nbytes
        total += 0 if index is None else index.nbytes
        return total + sum(new.key.nbytes * 4 + fraud.nbytes for new, fraud in self._new)

    def due(self, frauds: Frauds) -> Integers:
        """Return when frauds start to count in any window, int64[m]."""
        return due(frauds, self._delay)

    def label(self, frauds: Frauds, fraud: Mask | None = None) -> None:
        """Add labels in order of arrival.

        A second fraud label of a transaction changes nothing; a genuine one revokes the first.

        Args:
          frauds: m labelled transactions.
          fraud: bool[m], fraud or genuine; None: all frauds.

        Raises:
          FraudError: a label without a transaction id is revoked.
        """
        if not len(frauds):
            return
        taken_back = fraud is not None and not fraud.all()
        if taken_back and frauds.transaction is None:
            raise FraudError(
                "a label cannot be taken back: its transaction has no id", Code.ROWS_INVALID
            )
        self._new.append((frauds, np.ones(len(frauds), dtype=bool) if fraud is None else fraud))
        self._due = min(self._due, -_FAR if taken_back else int(self.due(frauds).min()))

    def forget(self, until: int) -> None:
        """Expire frauds with event times up to a time."""
        self._settle()
        self._keep(self._frauds.time > until)

    def counts(
        self, keys: Hashes, times: Integers, windows: Sequence[tuple[int, int]]
    ) -> list[Integers]:
        """Count the known frauds in windows.

        Args:
          keys: uint64[n].
          times: int64[n], now; n is not 0.
          windows: ages in microseconds of the windows' starts and ends.

        Returns:
          int64[n] per window.
        """
        return self._index_at(int(times.max())).counts(keys, times, windows)

    def counts_of(self, key: int, time: int, windows: Sequence[tuple[int, int]]) -> list[int]:
        """Return the same for one transaction."""
        return self._index_at(time).counts_of(key, time, windows)

    def _index_at(self, latest: int) -> FraudIndex:
        """Return the index for transactions up to a time."""
        if self._index is None or latest >= self._due:
            self._settle()
            self._index, self._due = FraudIndex.of(self._frauds, self._delay), _FAR
        return self._index

    def _settle(self) -> None:
        """Merge the new labels into the frauds."""
        new, self._new = self._new, []
        for named in (True, False):
            part = [label for label in new if (label[0].transaction is not None) is named]
            if not part:
                continue
            frauds, fraud = _together([frauds for frauds, _ in part]), [fraud for _, fraud in part]
            ids = frauds.transaction
            if ids is None:
                self._append(frauds, np.zeros(len(frauds), dtype=np.uint64), named)
                continue
            rows, genuine = _in_effect(ids, np.concatenate(fraud))
            self._keep(~(self._named & np.isin(self._ids, genuine)))
            known = self._ids[self._named & np.isin(self._ids, ids[rows])]
            rows = rows[~np.isin(ids[rows], known)]
            self._append(frauds.take(rows), ids[rows], named)

    def _append(self, frauds: Frauds, ids: Hashes, named: bool) -> None:
        self._frauds = _together([self._frauds, frauds])
        self._ids = np.concatenate((self._ids, ids))
        self._named = np.concatenate((self._named, np.full(len(ids), named)))

    def _keep(self, selected: Mask) -> None:
        if selected.all():
            return
        self._frauds = self._frauds.take(selected)
        self._ids, self._named = self._ids[selected], self._named[selected]
        self._index = None


def _together(parts: Sequence[Frauds]) -> Frauds:
    """Concatenate frauds; keep ids if all have them."""
    ids = [part.transaction for part in parts if part.transaction is not None]
    return Frauds(
        np.concatenate([part.key for part in parts]),
        np.concatenate([part.time for part in parts]),
        np.concatenate([part.visible for part in parts]),
        None,
        np.concatenate(ids) if len(ids) == len(parts) else None,
    )


def _in_effect(ids: Hashes, fraud: Mask) -> tuple[Integers, Hashes]:
    """Return the net effect of a series of labels.

    Returns:
      int64[f]: first fraud label of each transaction after its last genuine one; uint64[g]:
      transactions with a genuine label.
    """
    distinct, group = np.unique(ids, return_inverse=True)
    last_genuine = np.full(len(distinct), -1)
    genuine = np.flatnonzero(~fraud)
    # Later positions overwrite earlier ones.
    last_genuine[group[genuine]] = genuine
    rows = np.flatnonzero(fraud & (np.arange(len(ids)) > last_genuine[group]))
    rows = rows[np.unique(group[rows], return_index=True)[1]]
    return rows, distinct[last_genuine >= 0]
