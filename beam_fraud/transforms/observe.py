"""Report the progress of a stream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.monitoring.recorder import recorder
from beam_fraud.sources.kafka.progress import lags
from beam_fraud.sources.raw import origin_of


@dataclass
class ObserveScored(beam.PTransform):
    """Measure the latency of scored rows (`stages.SCORED`); pass them on unchanged.

    Counters of the graph appear live in the worker process that runs this step. All rows of a batch
    count with the latency of the oldest.
    """

    #: Directory of the worker's status file (`monitoring.board`).
    directory: str

    def expand(self, scored: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """One step."""
        return scored | beam.ParDo(_ObserveScored(self.directory)).with_output_types(pa.RecordBatch)


class _ObserveScored(beam.DoFn):
    def __init__(self, directory: str) -> None:
        self._directory = directory

    def setup(self) -> None:
        self._recorder = recorder(self._directory)

    def process(self, scored: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        appended = origin_of(scored).appended
        if appended is not None:
            self._recorder.scored(len(scored), appended, time.time())
        yield scored

    def finish_bundle(self) -> None:
        # Bundles end even without input.
        for source, (next_offset, high) in lags().items():
            self._recorder.position(source, next_offset, high)
        self._recorder.flush()

    def teardown(self) -> None:
        self._recorder.flush(force=True)
