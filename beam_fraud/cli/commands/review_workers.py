"""`review --workers`: processes beside each other that show the pages at one port."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from beam_fraud.cli.commands.listening import listen_of
from beam_fraud.cli.commands.server_process import ServerProcess, counts_of, preload, start_all
from beam_fraud.cli.options import ReviewOptions
from beam_fraud.cli.terminal.interruption import drained_by_signals
from beam_fraud.serve.http.listen import bound
from beam_fraud.serve.http.sharing import AWAY, Shared

#: What the processes have imported.
_PRELOADED = ("beam_fraud.cli.commands.review", "beam_fraud.review.http.server")
#: Seconds between two looks at the processes.
_TICK = 0.1
#: Type: shows the pages in one process.
_One: TypeAlias = Callable[[ReviewOptions, Callable[[str], None], Shared], dict[str, object]]


@dataclass(frozen=True)
class _Part:
    """One of the processes."""

    one: _One
    shared: Shared

    def __call__(
        self, options: ReviewOptions, answering: Callable[[str], None]
    ) -> dict[str, object]:
        return self.one(options, answering, self.shared)


def run(options: ReviewOptions, one: _One, answering: Callable[[str], None]) -> dict[str, object]:
    """Show the pages until SIGINT or SIGTERM; start a process again that ends by itself.

    Each accepts connections while no other one has fewer.

    Args:
      options: the options of all.
      one: shows the pages in one process.
      answering: called with the URL when all answer.

    Returns:
      The address, how long it was served, and how often a process was started again.

    Raises:
      FraudError: the port cannot be listened on, or a process ends before it has answered; it has
        said why.
    """
    begun, stop = time.monotonic(), threading.Event()
    preload(_PRELOADED)
    # It stays open here: connections wait for a process that starts again.
    listening, counts = bound(listen_of(options)), counts_of([AWAY] * options.workers)
    processes = [
        ServerProcess(
            f"process {number + 1} of the pages",
            _Part(one, Shared(listening, counts, number)),
            options,
        )
        for number in range(options.workers)
    ]
    url = ""
    try:
        with drained_by_signals(stop.set):
            # The first alone: it migrates the tables, and what all would fail by is said once.
            start_all(processes[:1], stop)
            if not stop.is_set():
                start_all(processes[1:], stop)
            if not stop.is_set():
                url = processes[0].url
                answering(url)
            while not stop.wait(_TICK):
                for process in processes:
                    process.attend()
            for process in processes:
                process.terminate()
            for process in processes:
                process.result()
    finally:
        for process in processes:
            process.kill()
        listening.close()
    return {
        "url": url,
        "seconds": round(time.monotonic() - begun, 1),
        "workers": options.workers,
        "restarts": sum(process.restarts for process in processes),
    }
