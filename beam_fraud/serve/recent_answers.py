"""Answers in memory, for transactions that come again."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from itertools import repeat
from operator import itemgetter

import pyarrow as pa

from beam_fraud.serve.answered_rows import Rows, batch_of, ids_of

#: Rows from which a group is large.
LARGE = 64
#: Small batches that are joined at once.
_AT_ONCE = 64


class RecentAnswers:
    """Answers in memory, found by their transaction id.

    A batch of one row takes ten times the memory of a row of a large one, so small ones are joined
    when they are archived. Ids of large ones are entered when an answer is looked for.

    Args:
      large: rows from which a batch stays as it is.
    """

    def __init__(self, large: int = LARGE) -> None:
        self._large = large
        #: Held to enter ids, in any thread, and by the thread that adds answers.
        self._lock = threading.Lock()
        #: Id to batch and row of answers in small batches that are not archived.
        self._open: dict[str, tuple[Rows, int]] = {}
        #: Id to number of all others: the collector of garbage need not look at integers.
        self._numbers: dict[str, int] = {}
        #: The batches of these in order, each after the number of its first row.
        self._numbered: list[tuple[int, pa.RecordBatch]] = []
        #: The last of them, whose ids are not entered.
        self._unentered: deque[tuple[int, pa.RecordBatch]] = deque()
        #: The first numbers of those that are not archived, by the identity of the batch.
        self._waiting: dict[int, int] = {}
        self._next = 0

    def add(self, answered: Rows) -> None:
        """Add answers."""
        with self._lock:
            if len(answered) >= self._large:
                batch = batch_of(answered)
                start = self._waiting[id(answered)] = self._number(batch)
                self._unentered.append((start, batch))
                return
            # In their order: the newest answer to an id counts.
            self._enter()
            ids = ids_of(answered)
            self._open.update(zip(ids, zip(repeat(answered), range(len(ids))), strict=False))

    def archive(
        self,
        batches: Sequence[Rows],
        most: int,
        joined: pa.RecordBatch | None = None,
        pause: Callable[[], object] = lambda: None,
    ) -> None:
        """Note that answers are archived, and forget all but so many of these.

        Args:
          batches: the answers, as they were added.
          most: rows to remember.
          joined: the rows of the small batches as one, if that is made already.
          pause: called between two parts of the work, while others may add answers.
        """
        with self._lock:
            small = list[Rows]()
            for batch in batches:
                if self._waiting.pop(id(batch), None) is None:
                    small.append(batch)
            number = self._begin(small, joined) if small else 0
        for start in range(0, len(small), _AT_ONCE):
            pause()
            with self._lock:
                number = self._join(small[start : start + _AT_ONCE], number)
        with self._lock:
            waiting = set(self._waiting.values())
            kept = min(waiting, default=self._next)
            rows = sum(len(batch) for start, batch in self._numbered if start not in waiting)
            while rows > most and len(self._numbered) > 1 and self._numbered[0][0] < kept:
                start, oldest = self._numbered.pop(0)
                rows -= len(oldest)
                self._forget(start, oldest)

    def place(self, transaction_id: str) -> tuple[Rows | None, int]:
        """Return the answers that an answer is one of, or None; and its row; in any thread."""
        if self._unentered:
            with self._lock:
                self._enter()
        found = self._open.get(transaction_id)
        if found is not None:
            return found
        number = self._numbers.get(transaction_id)
        if number is None:
            return _NOTHING
        # A copy: another thread may forget the first meanwhile.
        numbered = self._numbered[:]
        at = bisect_right(numbered, number, key=itemgetter(0)) - 1
        if at < 0:
            return _NOTHING
        start, batch = numbered[at]
        return batch, number - start

    def remove(self, answered: Rows) -> None:
        """Remove answers that nobody got."""
        self._waiting.pop(id(answered), None)
        for name in ids_of(answered):
            if self.place(name)[0] is answered and self._open.pop(name, None) is None:
                del self._numbers[name]

    def _enter(self) -> None:
        """Enter the ids of large batches."""
        while self._unentered:
            start, batch = self._unentered[0]
            ids = ids_of(batch)
            self._numbers.update(zip(ids, range(start, start + len(ids)), strict=True))
            for name in self._open.keys() & ids if self._open else ():
                del self._open[name]
            self._unentered.popleft()

    def _begin(self, small: Sequence[Rows], joined: pa.RecordBatch | None) -> int:
        """Add small batches as one; return its first number."""
        # Before, because a number is of the last batch that has begun.
        self._enter()
        return self._number(batch_of(*small) if joined is None else joined)

    def _join(self, small: Sequence[Rows], number: int) -> int:
        """Number the answers of small batches from a number on; return the next one."""
        for batch in small:
            for name in ids_of(batch):
                if self._open.get(name, _NOTHING)[0] is batch:
                    # In this order: `place` looks among the open ones first.
                    self._numbers[name] = number
                    del self._open[name]
                number += 1
        return number

    def _number(self, answered: pa.RecordBatch) -> int:
        """Return the first of the numbers of the rows of a batch."""
        start = self._next
        self._numbered.append((start, answered))
        self._next += len(answered)
        return start

    def _forget(self, start: int, oldest: pa.RecordBatch) -> None:
        """Find the answers of a batch no more."""
        if self._unentered and self._unentered[0][0] == start:
            self._unentered.popleft()
            return
        for number, name in enumerate(ids_of(oldest), start):
            if self._numbers.get(name) == number:
                del self._numbers[name]


#: Place of an answer that is not in memory.
_NOTHING: tuple[Rows | None, int] = None, 0
