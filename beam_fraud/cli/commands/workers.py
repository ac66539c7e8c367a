"""`beam-fraud workers`: a pool of Python workers for a Flink cluster."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from queue import Empty, SimpleQueue

from beam_fraud.cli.options import WorkersOptions
from beam_fraud.cli.terminal.interruption import drained_by_signals
from beam_fraud.runners.workers.pool import WorkerPool

_LOG = logging.getLogger(__name__)


def run(options: WorkersOptions) -> dict[str, object]:
    """Start workers on request until SIGINT or SIGTERM.

    Returns:
      `endpoint` ("HOST:PORT") and `seconds` of its life.

    Raises:
      FraudError: the port is taken, or no worker can be started.
    """
    stop = SimpleQueue[None]()
    pool = WorkerPool(options.host, options.port)
    with drained_by_signals(lambda: stop.put(None)):
        endpoint = pool.start()
        began = time.perf_counter()
        try:
            _LOG.info("the pool of workers listens at %s; Ctrl-C stops them", endpoint)
            _wait(stop)
        finally:
            pool.stop()
    return {"endpoint": endpoint, "seconds": round(time.perf_counter() - began, 1)}


def _wait(stop: SimpleQueue[None]) -> None:
    # Not an Event: this thread may hold its lock when the signal's handler sets it. And with a time
    # limit: a signal right before the thread blocks does not interrupt it.
    while True:
        with suppress(Empty):
            return stop.get(timeout=1.0)


def render(result: dict[str, object]) -> str:
    """Return the result as one line."""
    return f"Workers were to be had at {result['endpoint']} for {result['seconds']} s."
