"""Messages with repeats, disorder and bad records; and their sender."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread

import numpy as np
import pyarrow as pa

from beam_fraud.simulate.messages import handbook_messages
from beam_fraud.simulate.simulation import Simulation, simulate
from beam_fraud.sinks.topic import TopicProducer
from beam_fraud.sources.kafka.settings import KafkaSettings
from benchmarks.hostile import hostile_messages
from benchmarks.pace import Pace
from deploy.kafka.broker import Broker

#: Days before the stream begins: as far as any window and its delay reach.
_HISTORY_DAYS = 38
#: Seconds for the broker to take the last messages.
_PATIENCE = 180.0
#: Properties of a producer that keeps all messages in memory while no broker answers.
_PATIENT = {
    "message.max.bytes": "20000000",
    "queue.buffering.max.messages": "0",
    "reconnect.backoff.max.ms": "500",
}


@dataclass(frozen=True)
class Traffic:
    """The messages of a topic, in this order."""

    #: Transactions of the days before.
    history: pa.Table
    #: The account of each message.
    keys: list[str]
    #: The messages.
    values: list[bytes]
    #: Distinct transactions among them; each is sent twice.
    transactions: int
    #: Messages among them that are none.
    bad: int


def make_traffic(seed: int, accounts: int, bad: int, late: float = 600.0) -> Traffic:
    """Simulated transactions twice each, up to `late` seconds out of order, bad ones among them.

    About 2 transactions an account are in the stream, and 76 in the history.
    """
    days = _HISTORY_DAYS + 1
    table = simulate(Simulation(days, accounts, 2 * accounts, seed, fraud_rate=0.03))
    seconds = table["TX_DATETIME"].cast(pa.int64()).to_numpy() // 1_000_000
    first = int(np.searchsorted(seconds, seconds[0] // 86_400 * 86_400 + _HISTORY_DAYS * 86_400))
    (streamed,) = handbook_messages(table.slice(first).combine_chunks(), table.num_rows)
    rng = np.random.default_rng(seed)
    count = len(streamed.keys)
    hostile = [message.payload for message in hostile_messages(bad, seed, largest=1 << 20)]
    due = np.concatenate(
        [
            seconds[first:] + rng.uniform(0, late, count),
            seconds[first:] + rng.uniform(0, late, count),
            rng.choice(seconds[first:], bad),
        ]
    )
    keys = [*streamed.keys, *streamed.keys, *rng.choice(np.array(streamed.keys), bad).tolist()]
    values = [*streamed.values, *streamed.values, *hostile]
    order = np.argsort(due, kind="stable").tolist()
    keys, values = [keys[place] for place in order], [values[place] for place in order]
    return Traffic(table.slice(0, first), keys, values, count, bad)


def patient_producer(broker: Broker) -> TopicProducer:
    """Return a producer for a broker that may stop; `flush` recovers a lost connection.

    A bare one of librdkafka would now and then send nothing more (`sources.kafka.check.is_lost`).
    """
    return TopicProducer(KafkaSettings(broker.bootstrap, tuple(_PATIENT.items())))


def flush(producer: TopicProducer) -> None:
    """Wait until the broker has all messages.

    Raises:
      TimeoutError: it takes too long.
    """
    done: Future[None] = Future()

    def run() -> None:
        try:
            done.set_result(producer.flush())
        except BaseException as error:
            done.set_exception(error)

    Thread(target=run, daemon=True).start()
    done.result(_PATIENCE)


class Feed:
    """Sends the messages of a traffic in order, whatever happens to the broker."""

    def __init__(self, broker: Broker, topic: str, traffic: Traffic) -> None:
        self._topic = topic
        self._traffic = traffic
        self._sent = 0
        self._producer = patient_producer(broker)

    def send(self, count: int) -> None:
        """Send the next `count` messages."""
        end = min(self._sent + count, len(self._traffic.keys))
        keys, values = (
            part[self._sent : end] for part in (self._traffic.keys, self._traffic.values)
        )
        messages = [{"key": key, "value": value} for key, value in zip(keys, values, strict=True)]
        self._producer.write_all(self._topic, messages)
        self._sent = end

    def settle(self) -> None:
        """Wait until the broker has the messages that were sent."""
        flush(self._producer)

    def send_for(self, seconds: float, count: int) -> None:
        """Send the next `count` messages evenly over some seconds."""
        pace, start, sent = Pace(max(count, 1) / max(seconds, 0.001), count), time.monotonic(), 0
        while (elapsed := time.monotonic() - start) < seconds:
            due = pace.due(elapsed)
            self.send(due - sent)
            sent = due
            time.sleep(0.01)
        self.send(count - sent)

    def finish(self) -> None:
        """Send the other messages and wait until the broker has all."""
        self.send(len(self._traffic.keys))
        self.settle()
