"""Cost of invalid messages in a stream."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Sequence

import pyarrow.parquet as pq

from beam_fraud.simulate.messages import handbook_messages
from benchmarks.hostile import hostile_messages
from benchmarks.measure import Case, ProcessFailedError
from benchmarks.plan import Plan, Results
from benchmarks.stream_load import Sender
from benchmarks.stream_run import Caught, catch_up, java_is_here, new_topic, running_broker
from benchmarks.table import Ratio, figure
from deploy.kafka.broker import Broker

#: Hostile messages, and good ones among them.
ROWS = 100_000
#: Bounds are for at least so many.
_BOUND_ROWS = 50_000
_AT_ONCE = 5_000


def measure_hostile(plan: Plan, results: Results) -> None:
    """Measure good messages alone, and with as many hostile ones among them."""
    if not java_is_here("stream-hostile"):
        return
    rows = min(ROWS, plan.inputs.rows)
    (good,) = handbook_messages(pq.read_table(plan.inputs.stream(rows)).combine_chunks(), rows)
    hostile = [message.payload for message in hostile_messages(rows, seed=1)]
    mixed = [value for pair in zip(good.values, hostile, strict=True) for value in pair]
    keys = [key for key in good.keys for _ in range(2)]
    plan.inputs.stream_bundle()
    with running_broker(plan) as broker:
        alone = _caught(plan, broker, "stream, good messages", good.keys, good.values)
        among = _caught(plan, broker, "stream, hostile ones among them", keys, mixed)
    for caught, count in ((alone, rows), (among, 2 * rows)):
        summary = caught[0].summary
        if (summary["rows_scored"], summary["rows_dead"]) != (rows, count - rows):
            counts = f"{summary['rows_scored']} scored, {summary['rows_dead']} dead".encode()
            raise ProcessFailedError(("beam-fraud", "stream"), 0, counts)
    for name, caught, count in (
        ("stream, good messages", alone, rows),
        ("stream, hostile ones among them", among, 2 * rows),
    ):
        results.figures.append(figure(Case(name, count, ()), [one.run for one in caught]))
    rates = [statistics.median(one.rate for one in caught) for caught in (among, alone)]
    bound = 0.5 if rows >= _BOUND_ROWS else None
    name = "messages/s with as many hostile ones / without, stream"
    results.ratios.append(Ratio(name, rates[0] / rates[1], bound, at_most=False))


def _caught(
    plan: Plan, broker: Broker, name: str, keys: Sequence[str], values: Sequence[bytes]
) -> list[Caught]:
    topic = new_topic(broker)
    sender = Sender(broker.bootstrap, topic)
    for first in range(0, len(values), _AT_ONCE):
        these = slice(first, first + _AT_ONCE)
        sender.send(keys[these], values[these])
    sender.finish()
    runs = []
    for _ in range(plan.repeat):
        runs.append(catch_up(plan, name, broker, topic, len(values)))
        shutil.rmtree(runs[-1].out)
    return runs
