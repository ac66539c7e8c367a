"""Memory of a stream over few messages and over many: only its state may grow."""

from __future__ import annotations

import shutil
import sqlite3
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Case
from benchmarks.plan import Plan, Results, log
from benchmarks.stream import ROWS
from benchmarks.stream_run import Caught, catch_up, filled_topic, java_is_here, running_broker
from benchmarks.table import Ratio, figure

#: How many times as many messages.
_TIMES = 5
#: The longest window and its delay reach back 37 days, the ids a day: after so many messages of
#: 9,600 a day everything is full.
_FULL_AFTER = 400_000
_NAME = "stream, memory"


def measure_stream_memory(plan: Plan, results: Results) -> None:
    """Measure few and many messages, after all windows have filled; takes minutes with `--full`."""
    if not plan.full:
        log.info("stream-memory: only with --full, left out")
        return
    if not java_is_here("stream-memory"):
        return
    few = min(ROWS, plan.inputs.rows)
    caught = []
    with running_broker(plan) as broker:
        for rows in (few, _TIMES * few):
            topic = filled_topic(broker, plan.inputs.stream(rows))
            caught.append(catch_up(plan, _NAME, broker, topic, rows))
            results.figures.append(figure(Case(_NAME, rows, ()), [caught[-1].run]))
            results.ratios += _state(caught[-1], rows)
            shutil.rmtree(caught[-1].out / "scores")
    less, more = caught
    bound = 1.3 if few >= _FULL_AFTER else None
    name = f"peak memory at {_TIMES * few:,} messages / at {few:,}, stream"
    results.ratios.append(Ratio(name, more.run.peak_bytes / less.run.peak_bytes, bound))
    name = f"memory in the last tenth / in the third, stream of {_TIMES * few:,} messages"
    results.ratios.append(Ratio(name, growth(more.run.held), bound))


def growth(held: Sequence[tuple[float, int]]) -> float:
    """Return the median bytes in the last tenth of the time divided by that in the third tenth.

    Before the third tenth a process still starts.
    """
    values = [size for _, size in held]
    tenth = max(1, len(values) // 10)
    third = values[2 * tenth : 3 * tenth] or values[:1]
    return statistics.median(values[-tenth:]) / statistics.median(third)


def _state(caught: Caught, rows: int) -> list[Ratio]:
    """Return the size of the state on disk: megabytes and deltas by step."""
    figures = []
    for step, (pieces, size) in state_of(caught.out / "stream" / "state.db").items():
        name = f"state after {rows:,} messages, MB in {pieces:,} pieces, {step}"
        figures.append(Ratio(name, size / 1e6))
    return figures


def state_of(checkpoint: Path) -> dict[str, tuple[int, int]]:
    """Return number and bytes of the deltas by step."""
    connection = sqlite3.connect(checkpoint)
    try:
        query = "SELECT step, count(*), sum(length(data)) FROM deltas GROUP BY step ORDER BY step"
        return {step: (pieces, size) for step, pieces, size in connection.execute(query)}
    finally:
        connection.close()
