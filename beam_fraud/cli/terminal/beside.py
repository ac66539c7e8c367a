"""Run a function beside the body of a command."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def beside(watch: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run `watch` in a thread while the body runs; it must end once the event is set."""
    done = threading.Event()
    watcher = threading.Thread(target=watch, args=(done,), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
