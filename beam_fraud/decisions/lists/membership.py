"""Look values up in a list at their event times, and follow changes of the list."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.decisions.lists.changes import Tail, list_file, read_tail
from beam_fraud.errors import FraudError
from beam_fraud.features.hashing import Hashes, IdHash

Times = npt.NDArray[np.int64]
_LOG = logging.getLogger(__name__)
#: Seconds between two looks at the file.
_LOOK_SECONDS = 1.0
#: Bits of a filter above those of the number of values: one look-up in 16 passes it in vain.
_SPARE_BITS = 4
_FOREVER, _NEVER = np.iinfo(np.int64).max, np.iinfo(np.int64).min


class Membership:
    """The values of a list by their hashes.

    64-bit hashes under a random key stand for the values: that a value is taken for one of a
    million others has a probability of 5e-14.
    """

    def __init__(self) -> None:
        self._hash = IdHash.random()
        self._hashes: Hashes = np.zeros(0, dtype=np.uint64)
        #: Event time in microseconds until which each value is in the list.
        self._until: Times = np.zeros(0, dtype=np.int64)
        self._rebuild_filter()

    def apply(self, changes: pa.Table) -> None:
        """Apply changes, `Tail.changes`, in their order."""
        if not changes.num_rows:
            return
        hashes = self._hash.of(changes.column("value").combine_chunks())
        added = pc.equal(changes.column("action"), "add").to_numpy()
        until = changes.column("until").cast(pa.int64()).fill_null(_FOREVER).to_numpy()
        until = np.where(added, until, _NEVER)
        # The last change of each value: the first of each run in reverse order.
        distinct, last = np.unique(hashes[::-1], return_index=True)
        until = until[::-1][last]
        places = np.searchsorted(self._hashes, distinct)
        inside = np.minimum(places, max(len(self._hashes) - 1, 0))
        known = self._hashes[inside] == distinct if len(self._hashes) else np.zeros(len(last), bool)
        self._until[places[known]] = until[known]
        new = ~known
        self._hashes = np.insert(self._hashes, places[new], distinct[new])
        self._until = np.insert(self._until, places[new], until[new])
        if len(self._hashes) << _SPARE_BITS > len(self._filter):
            self._rebuild_filter()
        else:
            self._filter[(distinct[new] >> self._shift).astype(np.int64)] = True

    def _rebuild_filter(self) -> None:
        # Twice the room that is needed now: a growing list seldom fills it again.
        bits = max(len(self._hashes), 1 << 8).bit_length() + _SPARE_BITS
        self._shift = np.uint64(64 - bits)
        self._filter = np.zeros(1 << bits, dtype=bool)
        self._filter[(self._hashes >> self._shift).astype(np.int64)] = True

    def of(self, column: pa.StringArray, times: Times) -> npt.NDArray[np.bool_]:
        """Return whether each value is in the list.

        Args:
          column: string[n]; a null is not in it.
          times: int64[n], event times in microseconds.

        Returns:
          bool[n].
        """
        result = np.zeros(len(column), dtype=bool)
        if not len(self._hashes):
            return result
        hashes = self._hash.of(column)
        # Most values are in no list: one byte of the filter tells, without a search.
        rows = np.flatnonzero(self._filter[(hashes >> self._shift).astype(np.int64)])
        places = np.searchsorted(self._hashes, hashes[rows])
        places[places == len(self._hashes)] = 0
        same = self._hashes[places] == hashes[rows]
        result[rows] = same & (self._until[places] > times[rows])
        if column.null_count:
            result &= column.is_valid().to_numpy(zero_copy_only=False)
        return result

    def count(self, time: int) -> int:
        """Return the number of values that are in the list at a time in microseconds."""
        return int(np.count_nonzero(self._until > time))


class LiveList:
    """A list that follows its file.

    Args:
      directory: the directory of the lists.
      name: of the list.

    Raises:
      FraudError: there is no such list, or its file cannot be read.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._directory, self._name = directory, name
        self._path = list_file(directory, name)
        self._next = 0.0
        self._refused: str | None = None
        self._start()

    def _start(self) -> None:
        members, tail = Membership(), read_tail(self._directory, self._name)
        members.apply(tail.changes)
        self._members, self._end = members, tail.end
        self._file = self._path.stat().st_ino

    def of(self, column: pa.StringArray, times: Times) -> npt.NDArray[np.bool_]:
        """Return bool[n] as `Membership.of`, by the file as it was a second ago at most."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _LOOK_SECONDS
            self._follow()
        return self._members.of(column, times)

    def _follow(self) -> None:
        """Take up changes; keep what is known while the file cannot be read."""
        try:
            now = self._path.stat()
            if now.st_ino != self._file or now.st_size < self._end:
                # Somebody put another file in its place.
                self._start()
            elif now.st_size > self._end:
                tail: Tail = read_tail(self._directory, self._name, self._end)
                self._members.apply(tail.changes)
                self._end = tail.end
            self._refused = None
        except (OSError, FraudError) as error:
            if str(error) != self._refused:
                self._refused = str(error)
                _LOG.error("list %s stays as it was: %s", self._name, error)
