"""The event clock of a stream: it follows the bulk of the rows, and no single one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import numpy as np
import numpy.typing as npt

Micros = npt.NDArray[np.int64]

#: Time before any event, where a clock starts.
NEVER = -(1 << 62)
#: Rows per block, and blocks that determine the clock.
_BLOCK, _BLOCKS = 64, 16
#: One in so many rows of a block must be at least as new.
_SHARE = 4
#: Words before the times of a state: its time, and the numbers of both.
_HEADER_WORDS = 3


class ClockState(msgspec.Struct, frozen=True, array_like=True):
    """The state of a clock."""

    #: Its time, microseconds.
    at: int
    #: Times of the last blocks.
    reached: list[int]
    #: Times of the rows of the incomplete block.
    open: list[int]

    def words(self) -> Micros:
        """Return it as int64[n]: its time, the numbers of both times, and these."""
        header = (self.at, len(self.reached), len(self.open))
        return np.array([*header, *self.reached, *self.open], dtype=np.int64)

    @classmethod
    def of_words(cls, words: Micros) -> tuple[ClockState, Micros]:
        """Return the state at the start of int64 words, and the remaining words.

        Raises:
          ValueError: there is none.
        """
        if len(words) < _HEADER_WORDS:
            raise ValueError("no clock")
        at, blocks, rows = words[:_HEADER_WORDS].tolist()
        first_row = _HEADER_WORDS + blocks
        end = first_row + rows
        if min(blocks, rows) < 0 or end > len(words):
            raise ValueError("no whole clock")
        reached, of_rows = words[_HEADER_WORDS:first_row], words[first_row:end]
        return cls(at, reached.tolist(), of_rows.tolist()), words[end:]


class EventClock:
    """A clock that a quarter of the rows of most recent blocks has reached; it never goes back.

    The time of a block of 64 rows is that of its 16th newest row; the clock is the lower median of
    the last 16 blocks. So 16 of 64 rows in 9 of 16 blocks are needed to move it: a few sources with
    wrong clocks cannot, however far ahead they are. The clock depends on the rows and their order
    alone, not on batches or arrival, and lags by about 500 rows.

    Args:
      block: rows per block.
      blocks: number of blocks; with 1 block of 1 row, the clock is the newest event time.

    Example:
      >>> clock = EventClock()
      >>> clock.observe(np.arange(64))
      >>> clock.at
      48
      >>> clock.observe(np.full(15, 1_000_000))
      >>> clock.observe(np.arange(64, 128))
      >>> clock.at
      48
      >>> clock.observe(np.arange(128, 1_024))
      >>> clock.at
      481
    """

    def __init__(self, block: int = _BLOCK, blocks: int = _BLOCKS) -> None:
        self._block, self._blocks = block, blocks
        self._place = block - max(block // _SHARE, 1)
        self._recent = np.arange(1, blocks + 1)
        self._open = np.zeros(0, dtype=np.int64)
        #: Rows after these that came one by one.
        self._single = list[int]()
        self._reached = np.zeros(0, dtype=np.int64)
        #: Result of `after`, for rows that are likely observed next.
        self._computed: tuple[Micros, tuple[Micros, Micros, Micros]] | None = None
        #: Its time, microseconds; `NEVER` before the first block.
        self.at = NEVER
        #: Number of complete blocks that it observed; at least 1 after `resume`.
        self.completed = 0
        #: Whether rows are old ones, which it observed before.
        self._stopped = False

    @property
    def state(self) -> ClockState:
        """State for `resume`."""
        return ClockState(self.at, self._reached.tolist(), [*self._open.tolist(), *self._single])

    def resume(self, state: ClockState) -> None:
        """Continue from a state."""
        self.at, self._computed, self._single = state.at, None, []
        # As many as this clock has: the first one stands for missing earlier ones.
        missing = state.reached[:1] * (self._blocks - len(state.reached))
        self._reached = np.array([*missing, *state.reached][-self._blocks :], dtype=np.int64)
        self._open = np.array(state.open, dtype=np.int64)
        self.completed = max(self.completed, 1)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Observe nothing for a while, in which rows come again that it observed before."""
        self._stopped = True
        try:
            yield
        finally:
            self._stopped = False

    def stands(self, rows: int) -> bool:
        """Return whether so many more rows, of any times, do not move the clock."""
        return self._stopped or len(self._open) + len(self._single) + rows < self._block

    def after(self, times: Micros) -> int:
        """Return the clock's time after n more rows in order of arrival."""
        if self._stopped:
            return self.at
        self._settle()
        if self._computed is None or self._computed[0] is not times:
            self._computed = (times, self._advance(times))
        return int(self._computed[1][2][-1])

    def observe(self, times: Micros) -> None:
        """Add n rows in order of arrival, int64[n] microseconds."""
        if self._stopped:
            return
        self._settle()
        if self.stands(len(times)):
            self._open, self._computed = np.concatenate((self._open, times)), None
            return
        cached, self._computed = self._computed, None
        advanced = self._advance(times) if cached is None or cached[0] is not times else cached[1]
        self._open, self._reached, stood = advanced
        self.at = int(stood[-1])
        self.completed += len(stood) - 1

    def observe_one(self, time: int) -> None:
        """Add one row, microseconds."""
        if self._stopped:
            return
        if self.stands(1):
            self._single.append(time)
            self._computed = None
        else:
            self.observe(np.array([time], dtype=np.int64))

    def _settle(self) -> None:
        if self._single:
            singles = np.array(self._single, dtype=np.int64)
            self._open, self._single = np.concatenate((self._open, singles)), []

    def along(self, times: Micros) -> Micros:
        """Add rows; return the clock's time at each, int64[n]."""
        self._settle()
        filled, self._computed = len(self._open) + 1, None
        self._open, self._reached, stood = self._advance(times)
        self.at = int(stood[-1])
        self.completed += len(stood) - 1
        along: Micros = stood[np.arange(filled, filled + len(times)) // self._block]
        return along

    def _advance(self, times: Micros) -> tuple[Micros, Micros, Micros]:
        """Return the open rows, the blocks after `times`, and the clock after each block."""
        rows = np.concatenate((self._open, times))
        whole = len(rows) // self._block
        stood = np.full(whole + 1, self.at)
        if not whole:
            return rows, self._reached, stood
        blocks = rows[: whole * self._block].reshape(whole, self._block)
        newer = np.partition(blocks, self._place, axis=1)[:, self._place]
        # The first block stands for missing earlier ones.
        older = self._reached if len(self._reached) else np.repeat(newer[:1], self._blocks)
        reached = np.concatenate((older, newer))
        recent = reached[np.arange(whole)[:, None] + self._recent]
        middle = (self._blocks - 1) // 2
        stood[1:] = np.partition(recent, middle, axis=1)[:, middle]
        np.maximum.accumulate(stood, out=stood)
        return rows[whole * self._block :], reached[-self._blocks :].copy(), stood
