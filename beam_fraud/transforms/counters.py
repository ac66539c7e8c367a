"""Counters of the graph, by the names that summaries use."""

from __future__ import annotations

import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.runners.runner import PipelineResult

from beam_fraud.monitoring.counters import DEAD_PREFIX as DEAD_PREFIX
from beam_fraud.monitoring.counters import EARLIEST_HISTORY_ROW as EARLIEST_HISTORY_ROW
from beam_fraud.monitoring.counters import EARLIEST_ROW as EARLIEST_ROW
from beam_fraud.monitoring.counters import HISTORY_ROWS as HISTORY_ROWS
from beam_fraud.monitoring.counters import HISTORY_ROWS_LEFT_OUT as HISTORY_ROWS_LEFT_OUT
from beam_fraud.monitoring.counters import LABELS_DEAD as LABELS_DEAD
from beam_fraud.monitoring.counters import LABELS_IN as LABELS_IN
from beam_fraud.monitoring.counters import ROWS_AHEAD as ROWS_AHEAD
from beam_fraud.monitoring.counters import ROWS_DEAD as ROWS_DEAD
from beam_fraud.monitoring.counters import ROWS_DUPLICATE as ROWS_DUPLICATE
from beam_fraud.monitoring.counters import ROWS_FLAGGED as ROWS_FLAGGED
from beam_fraud.monitoring.counters import ROWS_IN as ROWS_IN
from beam_fraud.monitoring.counters import ROWS_OUT as ROWS_OUT
from beam_fraud.monitoring.counters import ROWS_SCORED as ROWS_SCORED
from beam_fraud.monitoring.counters import ROWS_UNDELIVERED as ROWS_UNDELIVERED
from beam_fraud.monitoring.counters import RULE_PREFIX as RULE_PREFIX
from beam_fraud.monitoring.counters import RULES_MUTED as RULES_MUTED
from beam_fraud.monitoring.recorder import count_everywhere
from beam_fraud.schema.duration import SECOND
from beam_fraud.schema.event_time import event_micros

NAMESPACE = "beam_fraud"


def count(name: str, rows: int) -> None:
    """Add `rows` to a counter of the running step and to the live status of a stream."""
    if rows:
        Metrics.counter(NAMESPACE, name).inc(rows)
        count_everywhere(name, rows)


def note_earliest(name: str, transactions: pa.RecordBatch) -> None:
    """Record the earliest event time of the graph's batches under a name, in whole seconds."""
    if len(transactions):
        # In seconds, because a distribution also sums its values.
        earliest = int(event_micros(transactions).min()) // SECOND
        Metrics.distribution(NAMESPACE, name).update(earliest)


def read_counters(result: PipelineResult) -> dict[str, int]:
    """Return every counter by name, including those of `note_earliest`."""
    metrics = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    totals: dict[str, int] = {}
    for earliest in metrics["distributions"]:
        name, least = earliest.key.metric.name, earliest.result.min
        totals[name] = min(totals.get(name, least), least)
    for counter in metrics["counters"]:
        name = counter.key.metric.name
        totals[name] = totals.get(name, 0) + counter.result
    return totals
