"""A server that the processes of a test run share: the first starts it, and the last kills it."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec


class Running(msgspec.Struct, frozen=True):
    """A server that runs."""

    pid: int
    port: int


@contextmanager
def shared_server(directory: Path, start: Callable[[Path], Running]) -> Iterator[Running]:
    """Run inside the `with` beside a server that other processes may use at the same time.

    Locks of files tell who uses it: those of a process that is killed are gone.

    Args:
      directory: of the server; the same in all processes.
      start: starts it there; called by one process.
    """
    directory.mkdir(exist_ok=True)
    about = directory / "running.json"
    with (directory / "users.lock").open("w") as users:
        with _alone(directory):
            fcntl.flock(users, fcntl.LOCK_SH)
            if about.exists():
                running = msgspec.json.decode(about.read_bytes(), type=Running)
            else:
                running = start(directory / "server")
                about.write_bytes(msgspec.json.encode(running))
        try:
            yield running
        finally:
            with _alone(directory), suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                about.unlink()
                with suppress(ProcessLookupError):
                    os.kill(running.pid, signal.SIGKILL)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    with (directory / "alone.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
