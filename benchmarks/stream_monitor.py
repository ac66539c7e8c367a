"""What a stream's monitor costs: backlogs with and without `--monitor`, in alternation.

Chance moves the throughput of a pair of runs by more than the monitor does. So there are many pairs
of short runs, and the figure is their median with its interval. Processor time varies less, and
limits the throughput where no core is idle. Starting, judging and ending cost the same whatever the
rows: a second, short topic tells how much.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass

from benchmarks.measure import ProcessFailedError, printed
from benchmarks.plan import Plan, Results
from benchmarks.stream_run import filled_topic, java_is_here, running_broker
from benchmarks.table import Ratio, median_interval

#: Messages of the long topic, and of the short one for each of those.
ROWS, _SHORT = 500_000, 0.2
#: Bounds are for at least so many: with fewer, the start decides.
_BOUND_ROWS = 500_000
#: The lowest share of the throughput that is left, and the highest share of the processor time of a
#: stream without a monitor.
_LEFT, _MORE = 0.95, 1.05


@dataclass(frozen=True)
class _Run:
    """A stream that has read a topic to its end."""

    #: `long` or `short`.
    topic: str
    monitor: bool
    rows: int
    #: Messages a second, from the first one consumed to the last one scored.
    rate: float
    #: Of all its threads.
    processor_seconds: float


def measure_monitor(plan: Plan, results: Results) -> None:
    """Read topics of simulated transactions to their ends; the broker shares the cores."""
    if not java_is_here("stream-monitor"):
        return
    rows = min(ROWS, plan.inputs.rows)
    sizes = {"long": rows, "short": int(_SHORT * rows)}
    files = {name: plan.inputs.stream(size) for name, size in sizes.items()}
    model, work = plan.inputs.stream_bundle(), plan.inputs.work / "out" / "stream-monitor"
    with running_broker(plan) as broker:
        topics = [f"--{name}={filled_topic(broker, file)}" for name, file in files.items()]
        command = (sys.executable, "-m", "benchmarks.stream_monitor_run", *topics)
        places = ("--kafka", broker.bootstrap, "--model", str(model), "--work", str(work))
        command = (*command, *places, "--repeat", str(plan.repeat))
        runs = [_Run(**one) for one in printed(command)]
    if lost := [one for one in runs if one.rows != sizes[one.topic]]:
        raise ProcessFailedError(command, 0, f"{lost[0]} of {sizes} messages".encode())
    bounded = rows >= _BOUND_ROWS
    results.ratios += _throughput(runs, _LEFT if bounded else None)
    results.ratios += _processor(runs, _MORE if bounded else None)


def _throughput(runs: list[_Run], bound: float | None) -> list[Ratio]:
    """Return the share of the throughput that is left, by pairs of runs that follow each other."""
    plain, watched = (
        [one.rate for one in runs if one.topic == "long" and one.monitor is monitor]
        for monitor in (False, True)
    )
    left = [after / before for before, after in zip(plain, watched, strict=True)]
    low, high = median_interval(left)
    name = f"stream, share of throughput with a monitor, median of {len(left)} pairs"
    return [
        Ratio("stream, thousand messages/s without a monitor", statistics.median(plain) / 1000),
        Ratio("stream, thousand messages/s with a monitor", statistics.median(watched) / 1000),
        Ratio(name, statistics.median(left), bound, at_most=False),
        Ratio("  its 95 % interval, low end", low),
        Ratio("  its 95 % interval, high end", high),
    ]


def _processor(runs: list[_Run], bound: float | None) -> list[Ratio]:
    """Return processor time by row, and that of starting and judging."""
    micros, fixed = [], []
    for monitor in (False, True):
        (long, rows), (short, few) = (
            _median_of([one for one in runs if (one.topic, one.monitor) == (topic, monitor)])
            for topic in ("long", "short")
        )
        micros.append(1e6 * (long - short) / (rows - few))
        fixed.append(short - few * micros[-1] / 1e6)
    return [
        Ratio("stream, µs of processor time a row without a monitor", micros[0]),
        Ratio("stream, µs of processor time a row with a monitor", micros[1]),
        Ratio("stream, processor time a row with a monitor, ratio", micros[1] / micros[0], bound),
        Ratio("stream, s of processor time to start a monitor and judge", fixed[1] - fixed[0]),
    ]


def _median_of(runs: list[_Run]) -> tuple[float, int]:
    """Return the median of the processor seconds of runs of one topic, and its messages."""
    return statistics.median(one.processor_seconds for one in runs), runs[0].rows
