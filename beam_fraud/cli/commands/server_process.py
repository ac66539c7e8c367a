"""A server in a process of its own, which is started again when it ends by itself."""

from __future__ import annotations

import ctypes
import gc
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Generic, TypeAlias, TypeVar

from beam_fraud.cli.terminal import log, outcome
from beam_fraud.cli.terminal.interruption import stopped_by_signals
from beam_fraud.errors import Code, FraudError

_LOG = logging.getLogger(__name__)
#: Servers are forks of a process that has only imported them: one starts again in a second.
_FORKS = multiprocessing.get_context("forkserver")
_preloaded: list[str] = []
_Options = TypeVar("_Options")
#: Type: runs a server, and calls a function with its URL when it answers; returns its result.
Run: TypeAlias = Callable[[_Options, Callable[[str], None]], dict[str, object]]
#: Type: settings of the log.
_Logging: TypeAlias = tuple[log.Level, log.Format, str | None]
#: Seconds between two looks at servers that start.
_TICK = 0.1
#: Most seconds until a server that fails again and again is started again.
_PATIENCE = 30.0
#: Seconds for a server to drain; it needs at most some twenty.
_DRAIN = 60.0


def preload(modules: Sequence[str]) -> None:
    """Have the process that servers are forks of import modules; before the first one starts."""
    _preloaded.extend(modules)
    _FORKS.set_forkserver_preload(_preloaded)


def counts_of(values: Sequence[int]) -> ctypes.Array[ctypes.c_int32]:
    """Return integers in memory that the processes share."""
    return _FORKS.RawArray(ctypes.c_int32, values)


class ServerProcess(Generic[_Options]):
    """A server in a process of its own."""

    def __init__(self, name: str, run: Run[_Options], options: _Options) -> None:
        """Prepare the process.

        Args:
          name: for messages: `the server at port 8000`.
          run: runs the server in it; a function of a module.
          options: its options.
        """
        self._name, self._run = name, run
        self.options = options
        #: How often it was started again.
        self.restarts = 0
        #: Where the process answers; "" while it does not.
        self.url = ""
        #: Whether this process, or one before it, has answered.
        self._answered = False
        #: Processes in a row that ended without an answer, and when the next one starts.
        self._failures, self._due = 0, 0.0
        self._process: ForkServerProcess | None = None
        self._connection: Connection | None = None

    @property
    def answers(self) -> bool:
        """Return whether the process answers requests."""
        return bool(self.url)

    def start(self) -> None:
        """Start the process."""
        self.url = ""
        self._connection, theirs = _FORKS.Pipe()
        self._process = _FORKS.Process(
            target=_work, args=(self._run, self.options, log.settings(), theirs)
        )
        self._process.start()
        theirs.close()

    def attend(self) -> None:
        """Start the process again if it has ended, at once if it had answered.

        Raises:
          FraudError: no process of this server has answered.
        """
        if self._process is None:
            if time.monotonic() >= self._due:
                self.restarts += 1
                self.start()
            return
        if self._process.is_alive():
            if not self.answers and isinstance(url := self._says(0), str):
                self.url, self._answered, self._failures = url, True, 0
                if self.restarts:
                    _LOG.info("%s answers again", self._name)
            return
        code = self._process.exitcode
        if not self._answered:
            raise FraudError(
                f"{self._name} ended with exit code {code} before it answered; its message "
                "stands above",
                Code.WORKER_ENDED,
            )
        wait = min(2.0**self._failures - 1, _PATIENCE)
        self._failures += 1
        _LOG.error(
            "%s ended with exit code %d; it starts again%s",
            *(self._name, code, f" in {wait:.0f} s" if wait else ""),
        )
        self._due = time.monotonic() + wait
        self._process = None

    def terminate(self) -> None:
        """Ask the process to drain and end."""
        if self._process is not None:
            self._process.terminate()

    def result(self) -> dict[str, object]:
        """Wait until the process has drained; return its result, {} if it failed."""
        if self._process is None:
            return {}
        said = self._says(_DRAIN)
        if isinstance(said, str):
            # It had not been asked yet.
            said = self._says(_DRAIN)
        result = said if isinstance(said, dict) else {}
        if not result and self._answered:
            _LOG.error("%s did not end in order", self._name)
        self._process.join(_DRAIN)
        return result

    def _says(self, seconds: float) -> object:
        """Return what the process says within so many seconds: its URL, then its result."""
        assert self._connection is not None
        with suppress(EOFError, OSError):
            if self._connection.poll(seconds):
                return self._connection.recv()
        return None

    def kill(self) -> None:
        """End the process at once, if it still runs."""
        if self._process is not None and self._process.is_alive():
            self._process.kill()
            self._process.join()


def start_all(servers: Sequence[ServerProcess[_Options]], stop: threading.Event) -> None:
    """Start servers and wait until they answer, or until they shall stop.

    Raises:
      FraudError: one ends before it has answered.
    """
    for server in servers:
        server.start()
    while not stop.is_set() and not all(server.answers for server in servers):
        for server in servers:
            server.attend()
        stop.wait(_TICK)


def _work(run: Run[_Options], options: _Options, logging: _Logging, parent: Connection) -> None:
    """Run one server; the target of its process."""
    # The first full collection would look at all that was imported before the fork, which copies
    # its memory: half a second in the middle of somebody's request.
    gc.freeze()
    # Ctrl-C in a terminal goes to the parent alone, which then stops all in order.
    os.setsid()
    outcome.prepare()
    log.configure(*logging)
    # Open in a fork of this process, it would hide from the parent that this one has ended.
    os.register_at_fork(after_in_child=parent.close)
    threading.Thread(target=_end_with, args=(parent,), name="parent", daemon=True).start()
    with stopped_by_signals():
        try:
            result = run(options, parent.send)
        except (Exception, KeyboardInterrupt) as error:
            sys.exit(outcome.report(error))
    with suppress(OSError):
        parent.send(result)


def _end_with(parent: Connection) -> None:
    """End this process as by SIGTERM once its parent has gone, even by a kill."""
    with suppress(EOFError, OSError):
        parent.recv()
    os.kill(os.getpid(), signal.SIGTERM)
