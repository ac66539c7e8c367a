"""Latency from a transaction in its topic to the score, the flagged row and the alert."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from benchmarks import commands
from benchmarks.latency import Latency, Moments, latency
from benchmarks.measure import PeakMemory, printed
from benchmarks.plan import Plan, Results, log
from benchmarks.running_stream import PATIENCE, running, wait_until
from benchmarks.stream_run import java_is_here, new_topic, running_broker
from benchmarks.table import Figure, Ratio
from benchmarks.topic_moments import moments, of_scored, of_transaction
from deploy.kafka.broker import Broker

#: Messages a second.
RATES = (1_000, 10_000, 50_000)
#: The rate that has bounds.
_BOUND_RATE = 10_000
#: The part of the time that is not counted: the model is loaded and caches fill.
_WARM_UP = 0.25
#: Messages that wait for the stream to be there; the load has the same, which are repeats then.
_FIRST = 100


def measure_latency(plan: Plan, results: Results) -> None:
    """Measure an even load at several rates."""
    if not java_is_here("stream-latency"):
        return
    file = plan.inputs.stream(max(_FIRST, int(max(RATES) * plan.seconds)))
    plan.inputs.stream_bundle()
    with running_broker(plan) as broker:
        for rate in RATES:
            measured, figure = measured_latency(plan, broker, f"stream at {rate:,}/s", rate, file)
            results.figures.append(figure)
            results.latencies += measured
            results.ratios += _ratios(rate, measured[0])


def measured_latency(
    plan: Plan, broker: Broker, name: str, rate: int, file: Path, *more: str
) -> tuple[list[Latency], Figure]:
    """Return the latency of scores, rows and alerts of a stream under an even load.

    Args:
      plan: how to measure.
      broker: that runs.
      name: of the stream, for the table.
      rate: messages a second.
      file: what is sent.
      more: options of the stream.
    """
    inputs = plan.inputs
    topic, scored = new_topic(broker), new_topic(broker)
    out = inputs.work / "out" / f"stream-{topic}"
    database, alerts, seen = out / "flagged.db", out / "alerts.jsonl", out / "seen.npz"
    options = ("--sink", f"sqlite:///{database}", "--alert", f"file:{alerts}")
    stream = commands.stream(
        broker.bootstrap, topic, inputs.stream_bundle(), out, *options, "--out-topic", scored, *more
    )
    expected = int(rate * plan.seconds)
    # Sent first: they are scored when the stream has started.
    first = ("--rate", str(_FIRST), "--seconds", "1")
    load = ("--rate", str(rate), "--seconds", str(plan.seconds))
    with running(stream) as process, PeakMemory([process.pid]) as memory:
        printed(commands.stream_load(broker.bootstrap, topic, file, *first))
        wait_until(lambda: _messages(broker, scored) >= _FIRST, process, "starts")
        with running(commands.stream_watch(database, alerts, seen)):
            sent = printed(commands.stream_load(broker.bootstrap, topic, file, *load))
            wait_until(lambda: _messages(broker, scored) >= expected, process, "scores all")
            # Alerts come after scores.
            time.sleep(2)
    log.info("%s: %s/s sent, at most %.3f s late", name, f"{sent['rate']:,.0f}", sent["late"])
    watched = np.load(seen)
    start = _after_warm_up(moments(broker.bootstrap, topic, of_transaction), plan.seconds)
    ends = {
        "score in the out-topic": moments(broker.bootstrap, scored, of_scored),
        "row in SQLite": Moments(watched["flagged_ids"], watched["flagged_at"]),
        "alert handed over": Moments(watched["alert_ids"], watched["alert_at"]),
    }
    flagged = int(np.isin(start.ids, ends["row in SQLite"].ids).sum())
    counts = (len(start), flagged, flagged)
    measured = [
        latency(f"{name}, {what}", start, end, expected=count)
        for (what, end), count in zip(ends.items(), counts, strict=True)
    ]
    seconds, peak = float(sent["seconds"]), memory.bytes / 1e6
    model = "hist_gradient_boosting"
    return measured, Figure(name, model, expected, 1, seconds, seconds, float(sent["rate"]), peak)


def _after_warm_up(start: Moments, seconds: float) -> Moments:
    """Return the messages of the load that count; the load ends with the last message."""
    counted = start.since(int(start.at.max() - seconds * (1 - _WARM_UP) * 1000))
    return counted.first()


def _ratios(rate: int, scored: Latency) -> list[Ratio]:
    bounds: tuple[tuple[float | None, float | None], ...] = ((None, None), (None, None))
    if rate == _BOUND_RATE:
        bounds = ((60.0, 20.0), (250.0, None))
    values = (scored.p50, scored.p99)
    return [
        Ratio(f"{scored.name}, {share}, ms", value, bound, aim=aim)
        for share, value, (bound, aim) in zip(("p50", "p99"), values, bounds, strict=True)
    ]


def _messages(broker: Broker, topic: str) -> int:
    """Return the number of messages in a topic."""
    consumer = Consumer({**broker.client, "group.id": "benchmark"})
    try:
        partitions = consumer.list_topics(topic, timeout=PATIENCE).topics[topic].partitions
        ends = [consumer.get_watermark_offsets(TopicPartition(topic, part)) for part in partitions]
    finally:
        consumer.close()
    return sum(end[1] - end[0] for end in ends if end is not None)
