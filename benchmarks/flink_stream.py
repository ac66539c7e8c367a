"""Throughput and latency of a stream on a Flink cluster of this machine."""

from __future__ import annotations

import json
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from beam_fraud.monitoring.recorder import read_board
from benchmarks import commands
from benchmarks.measure import PeakMemory, ProcessFailedError
from benchmarks.plan import Plan, Results, log
from benchmarks.running_stream import running, wait_until
from benchmarks.stream_latency import measured_latency
from benchmarks.stream_run import filled_topic, java_is_here, running_broker
from benchmarks.table import Figure, Ratio
from deploy.flink.cluster import FlinkCluster
from deploy.kafka.broker import Broker

#: Messages in the topic.
ROWS = 2_000_000
#: Bounds are for at least so many: with fewer, the start decides.
_BOUND_ROWS = 1_000_000
_MODEL = "hist_gradient_boosting"
#: A slot and a Python process for each core; as many shards as share them evenly.
_SHARE = ("--parallelism=2", "--sdk_worker_parallelism=2", "--shards=4")
_CHECKPOINTS = "--checkpointing_interval=1000"
#: Less traffic to the job manager, and larger bundles, as a stream that catches up may have them.
_LIGHT = ("--disable_metrics=true", "--max_bundle_time_mills=200")
#: Messages a second of an even load, and what a stream is run with as the documentation has it.
_RATES = (200, 1_000)
_DEFAULTS = ("--parallelism=2", "--sdk_worker_parallelism=2", "--checkpointing_interval=10000")
#: What is measured: a name, Beam's options for it, and the bound and the aim of its rate.
_CASES: tuple[tuple[str, tuple[str, ...], float | None, float | None], ...] = (
    ("stream on Flink", (), None, None),
    ("stream on Flink, light", _LIGHT, 40, 76),
    ("stream on Flink, light, with a monitor", (*_LIGHT, "--monitor"), None, None),
)


def measure_flink_stream(plan: Plan, results: Results) -> None:
    """Read a topic to its end with a checkpoint a second; broker and cluster share the cores."""
    if not java_is_here("flink-stream"):
        return
    rows = min(ROWS, plan.inputs.rows)
    file = plan.inputs.stream(rows)
    plan.inputs.stream_bundle()
    with (
        running_broker(plan) as broker,
        TemporaryDirectory(prefix="beam-fraud-") as data,
        FlinkCluster(Path(data), slots=2) as cluster,
    ):
        topic = filled_topic(broker, file)
        # The cases take turns, so that what else the machine does falls on both.
        runs = [
            (name, _catch_up(plan, broker, cluster, topic, rows, options))
            for _ in range(plan.repeat)
            for name, options, *_ in _CASES
        ]
    for name, _, bound, aim in _CASES:
        matching = [run for case, run in runs if case == name]
        rate = statistics.median(run.rate for run in matching)
        seconds = [run.seconds for run in matching]
        peak = max(run.peak for run in matching)
        spent = statistics.median(seconds)
        results.figures.append(
            Figure(name, _MODEL, rows, len(matching), spent, min(seconds), rate, peak / 1e6)
        )
        name = f"{name}, thousand messages/s, first consumed to last scored"
        bound = bound if rows >= _BOUND_ROWS else None
        results.ratios.append(Ratio(name, rate / 1000, bound, False, aim))


def measure_flink_latency(plan: Plan, results: Results) -> None:
    """Measure the latency under an even load; broker, load and cluster share the cores."""
    if not java_is_here("flink-latency"):
        return
    file = plan.inputs.stream(int(max(_RATES) * plan.seconds))
    plan.inputs.stream_bundle()
    with (
        running_broker(plan) as broker,
        TemporaryDirectory(prefix="beam-fraud-") as data,
        FlinkCluster(Path(data), slots=2) as cluster,
    ):
        for rate in _RATES:
            name, options = f"stream on Flink at {rate:,}/s", (*cluster.beam_options, *_DEFAULTS)
            measured, figure = measured_latency(plan, broker, name, rate, file, *options)
            results.figures.append(figure)
            results.latencies += measured


@dataclass(frozen=True)
class _Run:
    """One read of a backlog."""

    #: Messages a second, from the first consumed to the last scored.
    rate: float
    #: From the command's start to its end.
    seconds: float
    #: Bytes of the cluster's processes together, at their largest.
    peak: int


def _catch_up(
    plan: Plan,
    broker: Broker,
    cluster: FlinkCluster,
    topic: str,
    rows: int,
    more: tuple[str, ...],
) -> _Run:
    start = time.perf_counter()
    out = plan.inputs.work / "out" / f"flink-stream-{uuid4().hex[:8]}"
    options = ("--sink", f"sqlite:///{out / 'flagged.db'}", "--lateness", "1d", _CHECKPOINTS)
    bundle = plan.inputs.stream_bundle()
    command = commands.stream(
        broker.bootstrap, topic, bundle, out, *options, *cluster.beam_options, *_SHARE, *more
    )
    parts = [part.pid for part in cluster.parts.values() if part.pid is not None]

    def done() -> bool:
        return dict(read_board(out / "stream" / "live").counters).get("rows_scored", 0) >= rows

    with running(command) as process, PeakMemory(parts) as memory:
        wait_until(done, process, "scores all")
        _tell_checkpoints(cluster)
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text("utf-8"))
    if summary["rows_scored"] != rows or summary["rows_in"] != rows:
        raise ProcessFailedError(command, 0, f"{summary} of {rows} messages".encode())
    rate = float(summary["rows_per_second"])
    log.info("%s rows: %s/s, %.0f MB", f"{rows:,}", f"{rate:,.0f}", memory.bytes / 1e6)
    shutil.rmtree(out)
    return _Run(rate, time.perf_counter() - start, memory.bytes)


def _tell_checkpoints(cluster: FlinkCluster) -> None:
    (job,) = cluster.jobs("RUNNING")
    summary = cluster.get(f"/jobs/{job}/checkpoints")
    counts, last = summary["counts"], summary["latest"]["completed"]
    spent = summary["summary"]["end_to_end_duration"]
    log.info(
        "%d checkpoints, %d failed, %d ms in the median; the last has %.1f MB of state",
        counts["completed"],
        counts["failed"],
        spent["p50"],
        (last["state_size"] if last else 0) / 1e6,
    )
