"""What a stream's monitor costs: backlogs with and without `--monitor`, in alternation.

Chance moves the throughput of a pair of runs by more than the monitor does. So there are many pairs
of short runs, and the figure is their median with its interval. Processor time varies less, and
limits the throughput where no core is idle. Starting, loading the monitor and judging at the end
cost the same whatever the rows: a second, short topic tells how much, and it is subtracted.
"""

from __future__ import annotations

import shutil
import statistics
from dataclasses import dataclass

from benchmarks.measure import Case
from benchmarks.plan import Plan, Results
from benchmarks.stream_run import Caught, catch_up, filled_topic, java_is_here, running_broker
from benchmarks.table import Ratio, figure, median_interval
from deploy.kafka.broker import Broker

#: Messages of the long topic, and of the short one for each of those.
ROWS, _SHORT = 500_000, 0.2
#: Bounds are for at least so many: with fewer, the start decides.
_BOUND_ROWS = 500_000
#: The lowest share of the throughput that is left, and the highest share of the processor time of a
#: stream without a monitor.
_LEFT, _MORE = 0.95, 1.05
_PLAIN, _WATCHED = "stream, without a monitor", "stream, with a monitor"
_OPTIONS = {_PLAIN: (), _WATCHED: ("--monitor",)}
#: Seconds without a message after which a run ends: there are many runs.
_IDLE_SECONDS = 1
#: What comes first in one pair comes last in the next: a machine that slows down affects both.
_ORDER = (_PLAIN, _WATCHED, _WATCHED, _PLAIN)


@dataclass(frozen=True)
class _Topic:
    name: str
    rows: int


def measure_monitor(plan: Plan, results: Results) -> None:
    """Read topics of simulated transactions to their ends; the broker shares the cores."""
    if not java_is_here("stream-monitor"):
        return
    rows = min(ROWS, plan.inputs.rows)
    files = {size: plan.inputs.stream(size) for size in (rows, int(_SHORT * rows))}
    plan.inputs.stream_bundle()
    long: dict[str, list[Caught]] = {_PLAIN: [], _WATCHED: []}
    short: dict[str, list[Caught]] = {_PLAIN: [], _WATCHED: []}
    with running_broker(plan) as broker:
        whole, part = (_Topic(filled_topic(broker, file), size) for size, file in files.items())
        for _ in range(plan.repeat):
            for name in _ORDER:
                long[name].append(_caught(plan, broker, whole, name))
            for name in _OPTIONS:
                short[name].append(_caught(plan, broker, part, name))
    for name, runs in long.items():
        case = Case(name, rows, (), "hist_gradient_boosting")
        results.figures.append(figure(case, [one.run for one in runs]))
    results.ratios += _throughput(long, whole.rows)
    results.ratios += _processor(long, short, whole.rows, part.rows)


def _caught(plan: Plan, broker: Broker, topic: _Topic, name: str) -> Caught:
    options = _OPTIONS[name]
    one = catch_up(plan, name, broker, topic.name, topic.rows, *options, idle=_IDLE_SECONDS)
    shutil.rmtree(one.out)
    return one


def _throughput(long: dict[str, list[Caught]], rows: int) -> list[Ratio]:
    """Return the share of the throughput that is left, by pairs of runs that follow each other."""
    pairs = zip(long[_PLAIN], long[_WATCHED], strict=True)
    left = [watched.rate / plain.rate for plain, watched in pairs]
    name = "stream, share of throughput with a monitor"
    low, high = median_interval(left)
    return [
        Ratio(name, statistics.median(left), _LEFT if rows >= _BOUND_ROWS else None, False),
        Ratio(f"{name}: 95 % interval, low end", low),
        Ratio(f"{name}: 95 % interval, high end", high),
    ]


def _processor(
    long: dict[str, list[Caught]], short: dict[str, list[Caught]], rows: int, few: int
) -> list[Ratio]:
    """Return processor time by row, and that of starting, judging and ending."""
    micros, fixed = {}, {}
    for name in _OPTIONS:
        seconds, start = (
            statistics.mean(one.run.processor_seconds for one in runs[name])
            for runs in (long, short)
        )
        micros[name] = 1e6 * (seconds - start) / (rows - few)
        fixed[name] = start - few * micros[name] / 1e6
    more = micros[_WATCHED] / micros[_PLAIN]
    return [
        *(Ratio(f"{name}, µs of processor time a row", micros[name]) for name in _OPTIONS),
        Ratio(
            "stream, processor time a row with a monitor against without",
            more,
            _MORE if rows >= _BOUND_ROWS else None,
        ),
        Ratio(
            "stream, s of processor time to load a monitor and judge",
            fixed[_WATCHED] - fixed[_PLAIN],
        ),
    ]
