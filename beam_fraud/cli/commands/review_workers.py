"""`review --workers`: processes beside each other that show the pages at one port."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

from beam_fraud.cli.commands.server_process import Run, ServerProcess, preload, start_all
from beam_fraud.cli.options import ReviewOptions
from beam_fraud.cli.terminal.interruption import drained_by_signals

#: What the processes have imported.
_PRELOADED = ("beam_fraud.cli.commands.review", "beam_fraud.review.http.server")
#: Seconds between two looks at the processes.
_TICK = 0.1


def run(
    options: ReviewOptions, one: Run[ReviewOptions], answering: Callable[[str], None]
) -> dict[str, object]:
    """Show the pages until SIGINT or SIGTERM; start a process again that ends by itself.

    The system divides the connections among the processes.

    Args:
      options: the options of all.
      one: shows the pages in one process.
      answering: called with the URL when all answer.

    Returns:
      The address, how long it was served, and how often a process was started again.

    Raises:
      FraudError: a process ends before it has answered; it has said why.
    """
    begun, stop = time.monotonic(), threading.Event()
    preload(_PRELOADED)
    single = replace(options, workers=1, shares_port=True)
    # The first alone: it migrates the tables, and what all would fail by is said once.
    first = ServerProcess("process 1 of the pages", one, single)
    processes, url = [first], ""
    try:
        with drained_by_signals(stop.set):
            start_all([first], stop)
            if not stop.is_set():
                url = first.url
                # A free one, if the port was 0.
                first.options = replace(single, port=urlsplit(url).port or options.port)
                processes += [
                    ServerProcess(f"process {number} of the pages", one, first.options)
                    for number in range(2, options.workers + 1)
                ]
                start_all(processes[1:], stop)
            if not stop.is_set():
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
    return {
        "url": url,
        "seconds": round(time.monotonic() - begun, 1),
        "workers": options.workers,
        "restarts": sum(process.restarts for process in processes),
    }
