"""Read an unbounded source to raw batches, on this machine or on many workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import Any, ClassVar

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.unbounded_source import ReadFromUnboundedSource, UnboundedSource
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator

from beam_fraud.beam_internals import UNBOUNDED_SOURCES, ReaderCache, UnboundedSourceDoFn
from beam_fraud.monitoring.counters import LABELS_IN, ROWS_IN
from beam_fraud.monitoring.recorder import recorder
from beam_fraud.sources.raw import origin_of
from beam_fraud.transforms.counters import count

#: Parameters of Beam's step, which a step declares in its signature.
_TRACKER = beam.DoFn.RestrictionParam(UNBOUNDED_SOURCES)
#: Poll an idle source again after this share of its idle time, and at the latest after so many
#: seconds.
_PAUSE_SHARE, _LONGEST_PAUSE = 0.1, 1.0
#: An upper limit of sub-sources.
_ALL = 1_000
_WATERMARK = beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider())


@dataclass
class ReadStream(beam.PTransform):
    """Read the raw batches of a source (`sources.raw`) and count their records by type."""

    #: Source of raw batches.
    source: UnboundedSource
    #: Directory of the worker's status file (`monitoring.recorder`).
    live: str
    #: Minimum seconds between two acknowledgements to the source (`ReadElsewhere`); None on this
    #: machine, which acknowledges each bundle.
    finalize_seconds: float | None = None
    #: Seconds until an idle source is polled again.
    poll_interval: float = 0.05
    #: Seconds after which a bundle ends and its results are committed.
    max_read_seconds: float = 0.2

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[pa.RecordBatch]:
        """Read and count."""
        return (
            root
            | "Read" >> self._read()
            | "Count" >> beam.ParDo(_CountRows(self.live)).with_output_types(pa.RecordBatch)
        )

    def _read(self) -> beam.PTransform:
        if self.finalize_seconds is not None:
            return ReadElsewhere(
                self.source, self.poll_interval, self.max_read_seconds, self.finalize_seconds
            )
        return ReadFromUnboundedSource(
            self.source,
            poll_interval=self.poll_interval,
            max_read_time_seconds=self.max_read_seconds,
        )


class _CountRows(beam.DoFn):
    def __init__(self, live: str) -> None:
        self._live = live

    def setup(self) -> None:
        # The first counting step opens the board, or its rows would be missing.
        self._recorder = recorder(self._live)

    def process(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        labels = origin_of(batch).content == "labels"
        count(LABELS_IN if labels else ROWS_IN, len(batch))
        yield batch

    def finish_bundle(self) -> None:
        # A source has bundles even without records, and so publishes the last counts of other
        # steps.
        self._recorder.flush()


@dataclass
class ReadElsewhere(beam.PTransform):
    """`ReadFromUnboundedSource`, under the same names, with four differences.

    Each sub-source is its own element: Flink gives all output of one element to one worker,
    whatever the number of workers.

    It seldom asks for bundle finalization. A worker sets the steps of a bundle aside until the
    runner finalizes it, and creates new ones for the next bundle. Flink finalizes bundles when a
    checkpoint is complete, and never without checkpoints: if each bundle asked, each would open the
    model and seek in the source again, and memory would grow without end. Prism finalizes right
    after each bundle of a step that may ask, and then a worker fails that has not asked.

    Its steps share their readers. Beam keeps the reader of a bundle in the step, for the next
    bundle. A step that is set aside would keep the reader, its connection and its buffered records,
    and the next step would open another.

    The longer a source is idle, the longer the pause: each poll is a bundle, which costs a runner
    the same with and without records.
    """

    #: Source of raw batches; its sub-sources are not split again.
    source: UnboundedSource
    #: Minimum seconds until an idle source is polled again.
    poll_interval: float
    #: Seconds after which a bundle ends.
    max_read_seconds: float
    #: Minimum seconds between two bundles whose finalization the source hears of
    #: (`CheckpointMark.finalize_checkpoint`); infinite for never, 0 if all bundles ask.
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
    """Return the seconds until a source is polled that was idle for `idle` seconds.

    >>> [pause(0.05, idle) for idle in (0, 0.3, 2, 30)]
    [0.05, 0.05, 0.2, 1.0]
    """
    return max(poll_interval, min(idle * _PAUSE_SHARE, _LONGEST_PAUSE))


class _RarelyFinalized(UnboundedSourceDoFn):
    #: When each source of this process last emitted a record, or was first polled: steps come and
    #: go.
    gave: ClassVar[float | None] = None
    #: Readers between two bundles, for all steps of this process, and the number of steps.
    readers: ClassVar[ReaderCache] = ReaderCache(max_size=_ALL)
    steps: ClassVar[int] = 0
    lock: ClassVar[Lock] = Lock()
    finalize_seconds: float
    poll_interval: float
    #: Time of the next request; the first only after a while, so that infinity means never.
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
    """Finalizer of a bundle without records."""


@dataclass(frozen=True)
class _Seldom:
    """Replace the finalizer of a bundle by one that seldom asks."""

    step: _RarelyFinalized
    bundle: Any

    def register(self, callback: Callable[[], None]) -> None:
        self.step.register(self.bundle, callback)
