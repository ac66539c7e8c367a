"""In which order requests are answered, where more come than the processors can answer at once."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")
#: A request whose turn it is, and its place in the queue.
_Waiting = tuple[float, int, asyncio.Future[None]]


class Turns:
    """Some threads, which take the request that is due first.

    A request is due some time after it came: the longer that is, the more of those that come later
    may go before it, and none of them once it is due.
    """

    def __init__(self, threads: int, name: str) -> None:
        """Prepare the threads.

        Args:
          threads: requests that are answered at once.
          name: of the threads.
        """
        self._threads = ThreadPoolExecutor(threads, name)
        self._free, self._numbers = threads, count()
        self._waiting: list[_Waiting] = []

    async def run(
        self, patience: float, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Run `work` in a thread when its turn has come; on one event loop alone.

        Args:
          patience: seconds after which it is due.
          work: what to do, with its arguments.
        """
        loop = asyncio.get_running_loop()
        if self._free:
            self._free -= 1
        else:
            turn = loop.create_future()
            heapq.heappush(self._waiting, (loop.time() + patience, next(self._numbers), turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._next()
                raise
        try:
            return await loop.run_in_executor(self._threads, lambda: work(*args, **kwargs))
        finally:
            self._next()

    def close(self) -> None:
        """Wait for what runs."""
        self._threads.shutdown()

    def _next(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
