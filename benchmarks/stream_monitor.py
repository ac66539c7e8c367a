"""What a stream's monitor costs: a backlog with and without `--monitor`, in alternation."""

from __future__ import annotations

import shutil
import statistics

from benchmarks.measure import Case
from benchmarks.plan import Plan, Results
from benchmarks.stream_run import Caught, catch_up, filled_topic, java_is_here, running_broker
from benchmarks.table import Ratio, figure

#: Messages in the topic.
ROWS = 2_000_000
#: Bounds are for at least so many: with fewer, the start decides.
_BOUND_ROWS = 1_000_000
#: The lowest share of the throughput that is left.
_LEFT = 0.95
_CASES = (("stream, without a monitor", ()), ("stream, with a monitor", ("--monitor",)))


def measure_monitor(plan: Plan, results: Results) -> None:
    """Read a topic of simulated transactions to its end; the broker shares the cores."""
    if not java_is_here("stream-monitor"):
        return
    rows = min(ROWS, plan.inputs.rows)
    file = plan.inputs.stream(rows)
    plan.inputs.stream_bundle()
    caught: dict[str, list[Caught]] = {name: [] for name, _ in _CASES}
    with running_broker(plan) as broker:
        topic = filled_topic(broker, file)
        for _ in range(plan.repeat):
            for name, options in _CASES:
                one = catch_up(plan, name, broker, topic, rows, *options)
                caught[name].append(one)
                shutil.rmtree(one.out)
    model = "hist_gradient_boosting"
    for name, runs in caught.items():
        case = Case(name, rows, (), model)
        results.figures.append(figure(case, [one.run for one in runs]))
    pairs = zip(*caught.values(), strict=True)
    left = statistics.median(watched.rate / plain.rate for plain, watched in pairs)
    bound = _LEFT if rows >= _BOUND_ROWS else None
    results.ratios.append(Ratio("stream, share of throughput with a monitor", left, bound, False))
