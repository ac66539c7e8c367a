"""Common parts of the stream benchmarks: a broker, filled topics, and results."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks import commands
from benchmarks.measure import Case, ProcessFailedError, Run, printed, run
from benchmarks.plan import Plan, log
from deploy.kafka.broker import Broker

#: Partitions of every topic.
PARTITIONS = 4
#: A stream ends after so many seconds without a message.
IDLE_SECONDS = 3
#: The time of a message is when the broker took it.
_APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}


@dataclass(frozen=True)
class Caught:
    """A stream that has read a topic to its end."""

    #: The whole process.
    run: Run
    #: What it says itself: `summary.json`.
    summary: dict[str, Any]
    #: Where its outputs are.
    out: Path

    @property
    def rate(self) -> float:
        """Return messages a second, from the first one consumed to the last one scored."""
        return float(self.summary["rows_per_second"])


def java_is_here(part: str) -> bool:
    """Return whether a broker can run on this machine; print the reason if not."""
    missing = [name for name in ("java", "mvn") if shutil.which(name) is None]
    if missing:
        log.warning("%s: no %s on PATH, left out", part, " and no ".join(missing))
    return not missing


@contextmanager
def running_broker(plan: Plan) -> Iterator[Broker]:
    """Run a broker without topics; remove its data at the end."""
    directory = plan.inputs.work / "out" / "kafka"
    shutil.rmtree(directory, ignore_errors=True)
    try:
        with Broker(directory) as broker:
            yield broker
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def new_topic(broker: Broker, partitions: int = PARTITIONS) -> str:
    """Create a topic with a unique name whose messages have the broker's time."""
    name = f"benchmark-{uuid4().hex[:8]}"
    broker.create_topic(name, partitions, _APPEND_TIME)
    return name


def filled_topic(broker: Broker, rows: Path) -> str:
    """Create a topic with the transactions of a file."""
    topic = new_topic(broker)
    sent = printed(commands.stream_load(broker.bootstrap, topic, rows))
    log.info("%s messages sent, %s a second", f"{sent['messages']:,}", f"{sent['rate']:,.0f}")
    return topic


def catch_up(plan: Plan, name: str, broker: Broker, topic: str, rows: int, *more: str) -> Caught:
    """Run a stream from the first message of a topic to its last, with `more` options.

    Raises:
      ProcessFailedError: it failed, or has not made something of each of the `rows` messages.
    """
    out = plan.inputs.work / "out" / f"stream-{uuid4().hex[:8]}"
    options = ("--sink", f"sqlite:///{out / 'flagged.db'}", "--until-idle", str(IDLE_SECONDS))
    bundle = plan.inputs.stream_bundle()
    command = commands.stream(broker.bootstrap, topic, bundle, out, *options, *more)
    ran = run(Case(name, rows, (command,)))
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    of = {key: summary[f"rows_{key}"] for key in ("scored", "dead", "duplicate")}
    if sum(of.values()) != rows:
        raise ProcessFailedError(command, 0, f"{of} of {rows} messages".encode())
    caught = Caught(ran, summary, out)
    rate, peak = f"{caught.rate:,.0f}", ran.peak_bytes / 1e6
    log.info("%s, %s rows: %.2f s, %s/s, %.0f MB", name, f"{rows:,}", ran.seconds, rate, peak)
    return caught


def without_idling(caught: Caught) -> float:
    """Return the seconds of the whole process without the wait for further messages."""
    return caught.run.seconds - IDLE_SECONDS
