"""What passes, told to whoever watches a stream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.live.recorder import Recorder, recorder
from beam_fraud.sources.raw import origin_of
from beam_fraud.transforms.counters import LABELS_IN, ROWS_IN, count


@dataclass
class Observe(beam.PTransform):
    """Raw batches (`sources.raw`) as they are; counts transactions and labels as they come.

    In the process of a worker that runs this step, every counter of the graph shows live.
    """

    #: Where the worker's file goes (`live.board`).
    directory: str

    def expand(self, raw: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """One step."""
        return raw | beam.ParDo(_ObserveRead(self.directory)).with_output_types(pa.RecordBatch)


@dataclass
class ObserveScored(beam.PTransform):
    """Scored rows (`stages.SCORED`, the origin in the metadata) as they are; times their way here.

    All rows of a batch count as having taken as long as the oldest.
    """

    #: Where the worker's file goes (`live.board`).
    directory: str

    def expand(self, scored: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """One step."""
        return scored | beam.ParDo(_ObserveScored(self.directory)).with_output_types(pa.RecordBatch)


class _Observing(beam.DoFn):
    _recorder: Recorder

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def setup(self) -> None:
        self._recorder = recorder(self._directory)

    def finish_bundle(self) -> None:
        # Bundles end also when nothing comes.
        self._recorder.flush()

    def teardown(self) -> None:
        self._recorder.flush(force=True)


class _ObserveRead(_Observing):
    def process(self, raw: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        is_labels = origin_of(raw).content == "labels"
        count(LABELS_IN if is_labels else ROWS_IN, len(raw))
        yield raw


class _ObserveScored(_Observing):
    def process(self, scored: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        appended = origin_of(scored).appended
        if appended is not None:
            self._recorder.scored(len(scored), appended, time.time())
        yield scored
