"""Work in lanes: in order within a lane, side by side between lanes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

#: Pieces of work that wait for each worker, at most: they hold blocks of rows.
_WAITING = 2


class Lane:
    """Pieces of work that run one after the other."""

    def __init__(self) -> None:
        self.waiting: deque[Callable[[], None]] = deque()
        self.running = False


class Lanes:
    """Threads that run the work of lanes.

    What costs most, models, Arrow and NumPy, leaves Python's lock to other threads.
    """

    def __init__(self, workers: int) -> None:
        """Start threads; with one worker, the caller does the work itself."""
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None
        self._room = threading.BoundedSemaphore(workers * (1 + _WAITING))
        self._lock = threading.Lock()
        self._failure: BaseException | None = None

    def put(self, lane: Lane, work: Callable[[], None]) -> None:
        """Add work to a lane; wait while much waits.

        Raises:
          BaseException: what earlier work has raised.
        """
        if self._pool is None:
            work()
            return
        self._room.acquire()
        with self._lock:
            if self._failure is not None:
                raise self._failure
            lane.waiting.append(work)
            if lane.running:
                return
            lane.running = True
        self._pool.submit(self._run, lane)

    def _run(self, lane: Lane) -> None:
        while True:
            with self._lock:
                if not lane.waiting:
                    lane.running = False
                    return
                work = lane.waiting.popleft()
            try:
                work()
            except BaseException as error:
                with self._lock:
                    self._failure = self._failure or error
            finally:
                self._room.release()

    def __enter__(self) -> Lanes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for all work; after an error, drop what has not begun."""
        if self._pool is None:
            return
        self._pool.shutdown(wait=True, cancel_futures=error is not None)
        if error is None and self._failure is not None:
            raise self._failure
