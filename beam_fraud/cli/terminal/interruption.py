"""Handle Ctrl-C and SIGTERM: stop, clean up and report one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

#: Signals that stop a command, with their words.
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
#: Seconds between two checks of a stopped command.
_AGAIN = 2.0
#: The signal that has stopped the command, if one has.
_received: signal.Signals | None = None
#: Processes that the caller had started before: not ours to end.
_not_ours: frozenset[int] = frozenset()


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """While the body runs, SIGINT and SIGTERM raise KeyboardInterrupt in it, each once.

    A second signal ends the process at once, without a wait. Only the main thread can do this;
    elsewhere the body runs unchanged.
    """
    global _received, _not_ours
    _received = None
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _not_ours = frozenset(descendants(os.getpid()))
    before = {number: signal.getsignal(number) for number in _WORDS}
    alarm = signal.signal(signal.SIGALRM, _insist)
    for number, handler in before.items():
        # A shell makes background commands ignore Ctrl-C.
        if handler != signal.SIG_IGN:
            signal.signal(number, _stop)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def drained_by_signals(drain: Callable[[], None]) -> Iterator[None]:
    """While the body runs, the first SIGINT or SIGTERM calls `drain`; the body continues.

    The second ends the body as `stopped_by_signals` does, which must enclose this.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _WORDS}

    def first(number: int, frame: FrameType | None) -> None:
        restore()
        drain()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, first)
    try:
        yield
    finally:
        restore()


def stopped() -> tuple[str, int] | None:
    """Return the word and exit code of the signal that stopped the command, or None."""
    return None if _received is None else (_WORDS[_received], 128 + _received)


def _stop(number: int, frame: FrameType | None) -> None:
    global _received
    _received = signal.Signals(number)
    signal.signal(number, signal.SIG_DFL)
    _end_workers()
    signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
    raise KeyboardInterrupt


def _insist(number: int, frame: FrameType | None) -> None:
    """End processes that were about to start at the signal, and repeat a lost interruption.

    Some libraries run callbacks in the main thread that swallow exceptions.
    """
    _end_workers()
    handled = sys.exception()
    while handled is not None and not isinstance(handled, KeyboardInterrupt):
        handled = handled.__context__
    if handled is None:
        raise KeyboardInterrupt


def _end_workers() -> None:
    # Beam waits for the workers' current work, which can take as long as the run.
    # Parents first: one that sees its child end would go on, and might start another.
    for pid in (one for one in descendants(os.getpid()) if one not in _not_ours):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Return the living descendants of `pid`, each after its parent."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    pids, pending = list[int](), [pid]
    while pending:
        new = children.get(pending.pop(), [])
        pids += new
        pending += new
    return pids


def _parents() -> Iterator[tuple[int, int]]:
    """Yield every process and its parent."""
    if sys.platform == "linux":
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                # The name, in brackets, may contain anything; state and parent follow.
                yield int(stat.parent.name), int(stat.read_text().rpartition(")")[2].split()[1])
    else:
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True)
        for line in listed.stdout.splitlines():
            child, parent = line.split()
            yield int(child), int(parent)
