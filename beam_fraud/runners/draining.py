"""Drain a pipeline on a remote runner after a signal."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from apache_beam.runners.runner import PipelineResult, PipelineState

from beam_fraud.runners.launch import finished

_LOG = logging.getLogger(__name__)


class Draining:
    """Drain a pipeline once `ask` is called, on any runner.

    Some runners end when all sources have ended, some (Flink) never do: there the pipeline is
    cancelled once it makes no more progress.

    Args:
      stop: signals the sources to end.
      progress: value that changes while the pipeline makes progress.
      patience: seconds without progress after which a draining pipeline is cancelled.
      keep: called with the running pipeline before its sources are signalled; None for a runner
        that starts and ends it in one call.
    """

    def __init__(
        self,
        stop: Callable[[], None],
        progress: Callable[[], object],
        patience: float,
        keep: Callable[[PipelineResult], None] | None = None,
    ) -> None:
        self._stop = stop
        self._keep = keep
        self._progress = progress
        self._patience = patience
        self._asked = threading.Event()
        self._ended = threading.Event()
        self._cancelled = False

    def ask(self) -> None:
        """Signal the sources to end; safe to call from a signal handler."""
        if self._keep is None:
            self._stop()
        self._asked.set()

    def wait(self, result: PipelineResult) -> None:
        """Wait for the end of a started pipeline; a cancellation from here is a success.

        Raises:
          RuntimeError: it failed, or was cancelled by someone else.
        """
        # The runner's own wait has no time limit, and `ask` comes meanwhile.
        watch = threading.Thread(target=self._cancel, args=(result,), daemon=True)
        watch.start()
        try:
            finished(result)
        except Exception:
            # Beam treats a cancelled pipeline as failed.
            if not self._cancelled or result.state != PipelineState.CANCELLED:
                raise
        finally:
            self._ended.set()
            self._asked.set()
        watch.join()

    def _cancel(self, result: PipelineResult) -> None:
        self._asked.wait()
        if self._keep is not None and not self._ended.is_set():
            self._keep(result)
            self._stop()
        before: object = None
        while (now := self._progress()) != before:
            before = now
            if self._ended.wait(self._patience):
                return
        self._cancelled = True
        _LOG.info("the runner does not end the stream by itself, so it is cancelled")
        try:
            result.cancel()
        except Exception as error:
            _LOG.warning("the runner did not cancel the stream (%s); cancel it there", error)
