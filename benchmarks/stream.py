"""Throughput of a stream over a backlog, from Kafka to scores, in one process."""

from __future__ import annotations

import shutil
import statistics

from benchmarks.measure import Case
from benchmarks.plan import Plan, Results
from benchmarks.stream_run import (
    catch_up,
    filled_topic,
    java_is_here,
    running_broker,
    without_idling,
)
from benchmarks.table import Ratio, figure

#: Messages in the topic.
ROWS = 2_000_000
#: Bounds are for at least so many: with fewer, the start decides.
_BOUND_ROWS = 1_000_000
_NAME = "stream, catching up"


def measure_stream(plan: Plan, results: Results) -> None:
    """Read a topic of simulated transactions to its end; the broker shares the cores."""
    if not java_is_here("stream"):
        return
    rows = min(ROWS, plan.inputs.rows)
    file = plan.inputs.stream(rows)
    plan.inputs.stream_bundle()
    caught = []
    with running_broker(plan) as broker:
        topic = filled_topic(broker, file)
        for _ in range(plan.repeat):
            caught.append(catch_up(plan, _NAME, broker, topic, rows))
            shutil.rmtree(caught[-1].out)
    model = "hist_gradient_boosting"
    measured = figure(Case(_NAME, rows, (), model), [one.run for one in caught])
    results.figures.append(measured)
    bound = 80 if rows >= _BOUND_ROWS else None
    rate = statistics.median(one.rate for one in caught) / 1000
    name = "stream, thousand messages/s, first consumed to last scored"
    results.ratios.append(Ratio(name, rate, bound, False, 150))
    whole = rows / statistics.median(map(without_idling, caught)) / 1000
    name = "stream, thousand messages/s, whole process without its idle seconds"
    results.ratios.append(Ratio(name, whole))
