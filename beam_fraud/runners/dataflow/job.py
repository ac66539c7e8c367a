"""Drain a stream on Dataflow."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from apache_beam.runners.runner import PipelineResult, PipelineState

from beam_fraud.beam_internals import drain_dataflow_job
from beam_fraud.runners.launch import finished

_LOG = logging.getLogger(__name__)
#: Final states of a drained stream.
_GOOD_ENDS = (PipelineState.DRAINED, PipelineState.UPDATED)


class DataflowDraining:
    """Wait for a job; `ask` makes the service drain it, so that pending results are written."""

    def __init__(self) -> None:
        self._drain_requested = threading.Event()
        self._ended = threading.Event()

    def ask(self) -> None:
        """Drain the job; safe to call from a signal handler."""
        self._drain_requested.set()

    def wait(self, result: PipelineResult) -> None:
        """Wait for the end of a started job.

        Raises:
          RuntimeError: it failed or was cancelled.
        """
        with self._watched(result):
            try:
                finished(result)
            except Exception:
                # Beam treats every final state but one as a failure.
                if result.state not in _GOOD_ENDS:
                    raise

    @contextmanager
    def _watched(self, result: Any) -> Iterator[None]:
        # Beam's own wait has no time limit, and `ask` comes meanwhile.
        watch = threading.Thread(target=self._drain, args=(result,), daemon=True)
        watch.start()
        try:
            yield
        finally:
            self._ended.set()
            self._drain_requested.set()
            watch.join()

    def _drain(self, result: Any) -> None:
        self._drain_requested.wait()
        if self._ended.is_set():
            return
        _LOG.info("draining job %s; that takes minutes", result.job_id())
        try:
            drain_dataflow_job(result)
        except Exception as error:
            _LOG.warning("the job was not drained (%s); drain it by gcloud", error)
