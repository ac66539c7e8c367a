"""Counters of the graph, by the names that summaries use."""

from __future__ import annotations

from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.runners.runner import PipelineResult

NAMESPACE = "beam_fraud"
ROWS_IN = "rows_in"
#: Messages of a topic of labels.
LABELS_IN = "labels_in"
ROWS_SCORED = "rows_scored"
#: Rows of a table of features.
ROWS_OUT = "rows_out"
ROWS_FLAGGED = "rows_flagged"
ROWS_DEAD = "rows_dead"
ROWS_DUPLICATE = "rows_duplicate"
#: Rows of `--history` that fill windows, and those that were no transactions or repeated.
HISTORY_ROWS = "history_rows"
HISTORY_ROWS_LEFT_OUT = "history_rows_left_out"
#: Followed by the reason of the dead letters that it counts.
DEAD_PREFIX = "dead_"


def count(name: str, rows: int) -> None:
    """Add `rows` to a counter of the running step."""
    if rows:
        Metrics.counter(NAMESPACE, name).inc(rows)


def read_counters(result: PipelineResult) -> dict[str, int]:
    """Name to value of every counter of the graph that ever counted."""
    found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    totals: dict[str, int] = {}
    for counter in found:
        name = counter.key.metric.name
        totals[name] = totals.get(name, 0) + counter.result
    return totals
