"""Read an unbounded source to raw batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.unbounded_source import ReadFromUnboundedSource, UnboundedSource

from beam_fraud.monitoring.recorder import recorder
from beam_fraud.sources.raw import origin_of
from beam_fraud.transforms.counters import LABELS_IN, ROWS_IN, count
from beam_fraud.transforms.read_elsewhere import ReadElsewhere


@dataclass
class ReadStream(beam.PTransform):
    """Read the raw batches of a source (`sources.raw`) and count their records by type."""

    #: Source of raw batches.
    source: UnboundedSource
    #: Directory of the worker's status file (`monitoring.board`).
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
