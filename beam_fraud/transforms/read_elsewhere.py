"""Beam's reading of an unbounded source, as runners need it that spread it over workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import Any, ClassVar

import apache_beam as beam
import pyarrow as pa
from apache_beam.io import unbounded_source
from apache_beam.io.unbounded_source import UnboundedSource
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator

#: What Beam's step asks for; a step says so in its signature.
_TRACKER = beam.DoFn.RestrictionParam(unbounded_source._PROVIDER)
#: A source that gives nothing is asked again after this part of the time for which it has given
#: nothing, and at the latest after so many seconds.
_PAUSE_SHARE, _LONGEST_PAUSE = 0.1, 1.0
#: More sub-sources than any stream has.
_ALL = 1_000
_WATERMARK = beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider())


@dataclass
class ReadElsewhere(beam.PTransform):
    """`ReadFromUnboundedSource`, under the same names, with four differences.

    Each sub-source is an element of its own: Flink gives all that comes of one element to one
    worker, however many there are.

    It seldom asks to hear of a bundle's end. A worker sets the steps of a bundle aside until the
    runner says that it is kept for good, and makes new ones for the next bundle. Flink says so when
    a checkpoint is complete, and without checkpoints never: asked each time, every bundle would
    open the model and find its place in the source anew, and memory would grow for ever. Prism says
    so right after each bundle of a step that may ask, and then a worker fails that has not asked.

    Its steps share their readers. Beam keeps the reader of a bundle in the step, for the next
    bundle. A step that is set aside would keep it, with its connection and what it has fetched, and
    the next step would open another.

    The longer a source has given nothing, the longer it is left alone: each look is a bundle, which
    costs a runner the same whether anything came or not.
    """

    #: Has raw batches as its elements; its sub-sources are not split again.
    source: UnboundedSource
    #: Seconds until a source without data is asked again, at the earliest.
    poll_interval: float
    #: Seconds after which a bundle ends.
    max_read_seconds: float
    #: Seconds that at least pass between two bundles of which the source hears
    #: (`CheckpointMark.finalize_checkpoint`); infinite if it never does, 0 if all bundles ask.
    finalize_seconds: float

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[pa.RecordBatch]:
        """Read."""
        step = _RarelyFinalized(
            poll_interval=self.poll_interval, max_read_time_seconds=self.max_read_seconds
        )
        step.finalize_seconds = self.finalize_seconds
        step.poll_interval = self.poll_interval
        return (
            root
            | "Create" >> beam.Create(self.source.split(_ALL), reshuffle=False)
            | "ReadUnbounded" >> beam.ParDo(step).with_output_types(pa.RecordBatch)
        )


def pause(poll_interval: float, idle: float) -> float:
    """Seconds until a source is asked again that has given nothing for so many.

    >>> [pause(0.05, idle) for idle in (0, 0.3, 2, 30)]
    [0.05, 0.05, 0.2, 1.0]
    """
    return max(poll_interval, min(idle * _PAUSE_SHARE, _LONGEST_PAUSE))


class _RarelyFinalized(unbounded_source._ReadFromUnboundedSourceDoFn):
    #: When a source of this process has given anything last, or was first asked: steps come and go.
    gave: ClassVar[float | None] = None
    #: Readers between two bundles, of all steps of this process, and how many steps there are.
    readers: ClassVar[unbounded_source._ReaderCache] = unbounded_source._ReaderCache(max_size=_ALL)
    steps: ClassVar[int] = 0
    lock: ClassVar[Lock] = Lock()
    finalize_seconds: float
    poll_interval: float
    #: When the next may be asked for; the first only after a while, so that never is never.
    _next: float

    def setup(self) -> None:
        self._next = monotonic() + self.finalize_seconds
        self._reader_cache = _RarelyFinalized.readers
        with _RarelyFinalized.lock:
            _RarelyFinalized.steps += 1

    def teardown(self) -> None:
        with _RarelyFinalized.lock:
            _RarelyFinalized.steps -= 1
            last = _RarelyFinalized.steps == 0
        if last:
            _RarelyFinalized.readers.close_all()

    @beam.DoFn.unbounded_per_element()
    def process(
        self,
        element: UnboundedSource,
        bundle: Any = beam.DoFn.BundleFinalizerParam,
        tracker: Any = _TRACKER,
        watermark_estimator: Any = _WATERMARK,
    ) -> Iterator[pa.RecordBatch]:
        if self.finalize_seconds == 0:
            bundle.register(_nothing)
        now = monotonic()
        if _RarelyFinalized.gave is None:
            _RarelyFinalized.gave = now
        self._poll_interval = pause(self.poll_interval, now - _RarelyFinalized.gave)
        for batch in super().process(element, _Seldom(self, bundle), tracker, watermark_estimator):
            _RarelyFinalized.gave = monotonic()
            yield batch

    def register(self, bundle: Any, callback: Callable[[], None]) -> None:
        now = monotonic()
        if now >= self._next:
            self._next = now + self.finalize_seconds
            bundle.register(callback)


def _nothing() -> None:
    """What a bundle asks for that has given nothing."""


@dataclass(frozen=True)
class _Seldom:
    """Stands for the finalizer of a bundle."""

    step: _RarelyFinalized
    bundle: Any

    def register(self, callback: Callable[[], None]) -> None:
        self.step.register(self.bundle, callback)
