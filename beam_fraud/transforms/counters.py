"""Counters of the graph, by the names that summaries use."""

from __future__ import annotations

from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.runners.runner import PipelineResult

from beam_fraud.counter_names import DEAD_PREFIX as DEAD_PREFIX
from beam_fraud.counter_names import HISTORY_ROWS as HISTORY_ROWS
from beam_fraud.counter_names import HISTORY_ROWS_LEFT_OUT as HISTORY_ROWS_LEFT_OUT
from beam_fraud.counter_names import LABELS_DEAD as LABELS_DEAD
from beam_fraud.counter_names import LABELS_IN as LABELS_IN
from beam_fraud.counter_names import ROWS_DEAD as ROWS_DEAD
from beam_fraud.counter_names import ROWS_DUPLICATE as ROWS_DUPLICATE
from beam_fraud.counter_names import ROWS_FLAGGED as ROWS_FLAGGED
from beam_fraud.counter_names import ROWS_IN as ROWS_IN
from beam_fraud.counter_names import ROWS_OUT as ROWS_OUT
from beam_fraud.counter_names import ROWS_SCORED as ROWS_SCORED
from beam_fraud.counter_names import ROWS_UNDELIVERED as ROWS_UNDELIVERED
from beam_fraud.counter_names import RULE_PREFIX as RULE_PREFIX
from beam_fraud.counter_names import RULES_MUTED as RULES_MUTED
from beam_fraud.live.recorder import count_everywhere

NAMESPACE = "beam_fraud"


def count(name: str, rows: int) -> None:
    """Add `rows` to a counter of the running step, and to what shows a stream while it runs."""
    if rows:
        Metrics.counter(NAMESPACE, name).inc(rows)
        count_everywhere(name, rows)


def read_counters(result: PipelineResult) -> dict[str, int]:
    """Name to value of every counter of the graph that ever counted."""
    found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    totals: dict[str, int] = {}
    for counter in found:
        name = counter.key.metric.name
        totals[name] = totals.get(name, 0) + counter.result
    return totals
