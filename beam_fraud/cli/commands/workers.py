"""`beam-fraud workers`: a pool of Python workers for a Flink cluster."""

from __future__ import annotations

import logging
import threading
import time

from beam_fraud.cli.options import WorkersOptions
from beam_fraud.cli.terminal.interruption import drained_by_signals
from beam_fraud.runners.workers.pool import WorkerPool

_LOG = logging.getLogger(__name__)


def run(options: WorkersOptions) -> dict[str, object]:
    """Start workers for whoever asks, until SIGINT or SIGTERM.

    Returns:
      `endpoint` ("HOST:PORT") and `seconds` that it was there for.

    Raises:
      FraudError: the port is taken, or no worker can be started.
    """
    asked_to_stop = threading.Event()
    pool = WorkerPool(options.host, options.port)
    with drained_by_signals(asked_to_stop.set):
        endpoint = pool.start()
        began = time.perf_counter()
        try:
            _LOG.info("workers are to be had at %s; Ctrl-C stops them", endpoint)
            asked_to_stop.wait()
        finally:
            pool.stop()
    return {"endpoint": endpoint, "seconds": round(time.perf_counter() - began, 1)}


def render(result: dict[str, object]) -> str:
    """One line."""
    return f"Workers were to be had at {result['endpoint']} for {result['seconds']} s."
