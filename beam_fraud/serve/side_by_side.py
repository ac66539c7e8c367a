"""Parts of the work on a large group that do not depend on each other, at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

One = TypeVar("One")
Result = TypeVar("Result")
#: Rows from which a part takes longer than to wake up a thread.
_ENOUGH = 500


class SideBySide:
    """Calls a function for several arguments, each but the first in a thread of its own.

    NumPy and Arrow do not hold the interpreter while they work on large arrays.

    Example:
      >>> threads = SideBySide()
      >>> threads.map(abs, (-1, -2), rows=1_000)
      [1, 2]
      >>> threads.close()
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def map(
        self, function: Callable[[One], Result], arguments: Iterable[One], rows: int
    ) -> list[Result]:
        """Return the results in the order of the arguments; all calls have ended then.

        Args:
          function: the function; its calls must not change what another reads.
          arguments: the arguments.
          rows: rows that each call works on; few are worth no thread.
        """
        first, *others = arguments
        if rows < _ENOUGH or not others:
            return [function(first), *map(function, others)]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(len(others), "side by side")
        futures = [self._pool.submit(function, one) for one in others]
        try:
            own = function(first)
        finally:
            wait(futures)
        return [own, *(future.result() for future in futures)]

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()
