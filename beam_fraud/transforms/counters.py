"""Counters of the graph, by the names that summaries use, and the live status of a stream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.runners.runner import PipelineResult

from beam_fraud.monitoring.counters import FIRST_EVENT, LAST_EVENT
from beam_fraud.monitoring.recorder import (
    count_everywhere,
    note_dropped_everywhere,
    recorder,
)
from beam_fraud.monitoring.shadow import DROPPED_PREFIX, Dropped
from beam_fraud.schema.duration import SECOND
from beam_fraud.schema.event_time import event_micros
from beam_fraud.sources.kafka.position import lags
from beam_fraud.sources.raw import origin_of

NAMESPACE = "beam_fraud"


def count(name: str, rows: int) -> None:
    """Add `rows` to a counter of the running step and to the live status of a stream."""
    if rows:
        Metrics.counter(NAMESPACE, name).inc(rows)
        count_everywhere(name, rows)


def note_dropped(key: str, dropped: Dropped) -> None:
    """Record that a challenger was dropped, in the graph and in the live status of a stream."""
    name = f"{DROPPED_PREFIX}{key}:{dropped.reason}"
    Metrics.distribution(NAMESPACE, name).update(int(dropped.since))
    note_dropped_everywhere(key, dropped)


def note_earliest(name: str, transactions: pa.RecordBatch) -> None:
    """Record the earliest event time of the graph's batches under a name, in whole seconds."""
    if len(transactions):
        # In seconds, because a distribution also sums its values.
        earliest = int(event_micros(transactions).min()) // SECOND
        Metrics.distribution(NAMESPACE, name).update(earliest)


def note_span(transactions: pa.RecordBatch) -> None:
    """Record the earliest and the latest event time of valid rows, in whole seconds."""
    if len(transactions):
        micros = event_micros(transactions)
        Metrics.distribution(NAMESPACE, FIRST_EVENT).update(int(micros.min()) // SECOND)
        Metrics.distribution(NAMESPACE, LAST_EVENT).update(int(micros.max()) // SECOND)


def read_counters(result: PipelineResult) -> dict[str, int]:
    """Return every counter by name, including those of `note_earliest` and `note_span`."""
    metrics = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    totals: dict[str, int] = {}
    for times in metrics["distributions"]:
        name = times.key.metric.name
        choose, end = (max, times.result.max) if name == LAST_EVENT else (min, times.result.min)
        totals[name] = choose(totals.get(name, end), end)
    for counter in metrics["counters"]:
        name = counter.key.metric.name
        totals[name] = totals.get(name, 0) + counter.result
    return totals


@dataclass
class ObserveScored(beam.PTransform):
    """Measure the latency of scored rows (`stages.SCORED`); pass them on unchanged.

    Counters of the graph appear live in the worker process that runs this step. All rows of a batch
    count with the latency of the oldest.
    """

    #: Directory of the worker's status file (`monitoring.recorder`).
    directory: str

    def expand(self, scored: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Count the scores and pass the batches on."""
        return scored | beam.ParDo(_ObserveScored(self.directory)).with_output_types(pa.RecordBatch)


class _ObserveScored(beam.DoFn):
    def __init__(self, directory: str) -> None:
        self._directory = directory

    def setup(self) -> None:
        self._recorder = recorder(self._directory)

    def process(self, scored: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        appended = origin_of(scored).appended
        if appended is not None and len(scored):
            model_id = scored.column("model_id")[0].as_py()
            self._recorder.scored(len(scored), appended, time.time(), model_id)
        yield scored

    def finish_bundle(self) -> None:
        # Bundles end even without input.
        for source, (next_offset, high) in lags().items():
            self._recorder.position(source, next_offset, high)
        self._recorder.flush()

    def teardown(self) -> None:
        self._recorder.flush(force=True)
