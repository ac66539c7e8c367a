"""A pipeline on a runner that works elsewhere, from a signal to its end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from apache_beam.runners.runner import PipelineResult, PipelineState

from beam_fraud.runners.launch import finished

_LOG = logging.getLogger(__name__)


class Draining:
    """Ends a pipeline in good order once `ask` was called, whatever its runner makes of that.

    Some runners end by themselves when all sources have ended, some (Flink) never do: there the
    pipeline is cancelled as soon as it gets nothing done any more.

    Args:
      stop: tells the sources to come to an end.
      progress: something that changes while the pipeline gets anything done.
      patience: seconds without progress after which a pipeline that was to end is cancelled.
      keep: what is done with the running pipeline before its sources are told; None where the
        runner starts and ends it in one call.
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
        """Tell the sources to end; a signal may call this."""
        if self._keep is None:
            self._stop()
        self._asked.set()

    def wait(self, result: PipelineResult) -> None:
        """Wait for the end of a pipeline that has been started; a cancel from here is a good one.

        Raises:
          RuntimeError: it failed, or someone else has cancelled it.
        """
        # The runner's own wait has no end, and what asks comes while it lasts.
        watch = threading.Thread(target=self._cancel, args=(result,), daemon=True)
        watch.start()
        try:
            finished(result)
        except Exception:
            # A cancelled pipeline counts as one that has failed.
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
