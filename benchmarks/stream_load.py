"""Send transactions to a topic at an even rate, from a separate process; print the counts.

python -m benchmarks.stream_load --kafka HOST:PORT --topic T --rows FILE
    [--rate N --seconds S]
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import KafkaError, Message, Producer

from beam_fraud.simulate.messages import Messages, handbook_messages
from benchmarks.pace import Pace

#: Seconds between two hand-overs to the producer.
_TICK = 0.005
#: Messages that are handed to the producer at once where there is no rate.
_AT_ONCE = 20_000
#: Rows that are read at once.
_BLOCK = 100_000
#: Seconds for the broker to take what is left.
_PATIENCE = 120.0


@dataclass(frozen=True)
class Sent:
    """Counts of a load."""

    #: How many messages.
    messages: int
    #: Seconds from the first to the last.
    seconds: float
    #: Messages a second.
    rate: float
    #: Most seconds that a message was handed over after it was due.
    late: float


class RefusedError(Exception):
    """The broker refused a message."""


class Sender:
    """A producer that raises if the broker refuses a message."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        """Describe the destination; send nothing yet."""
        self._topic = topic
        self._refused: KafkaError | None = None
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                # What the client itself adds would count as the stream's latency nowhere: the
                # clock starts when the broker has a message.
                "linger.ms": 1,
                "batch.size": 1_000_000,
                "compression.type": "lz4",
                "message.max.bytes": 20_000_000,
                "queue.buffering.max.messages": 500_000,
                # A call for each message would take most of the time.
                "delivery.report.only.error": True,
            }
        )

    def connect(self) -> None:
        """Wait until the broker responds, so that the first messages do not have to.

        Raises:
          RefusedError: there is no such topic.
        """
        topic = self._producer.list_topics(self._topic, timeout=_PATIENCE).topics[self._topic]
        if topic.error is not None:
            raise RefusedError(topic.error.str())

    def send(self, keys: Sequence[str], values: Sequence[bytes]) -> None:
        """Pass messages to the producer; wait while its queue is full.

        Raises:
          RefusedError: the broker did not take an earlier one.
        """
        left: list[dict[str, Any]] = [
            {"key": key, "value": value} for key, value in zip(keys, values, strict=True)
        ]
        while True:
            queued = self._producer.produce_batch(self._topic, left, on_delivery=self._report)
            self._producer.poll(0)
            if self._refused is not None:
                raise RefusedError(self._refused.str())
            if queued == len(left):
                return
            left = [message for message in left if message.pop("_error", None)]
            self._producer.poll(0.005)

    def finish(self) -> None:
        """Wait until the broker has all messages.

        Raises:
          RefusedError: it has not.
        """
        if self._producer.flush(_PATIENCE) or self._refused is not None:
            raise RefusedError(self._refused.str() if self._refused else "the broker is too slow")

    def _report(self, error: KafkaError | None, _: Message) -> None:
        self._refused = error or self._refused


def send_at(sender: Sender, messages: Messages, pace: Pace) -> Sent:
    """Send messages when they are due, every few milliseconds."""
    start, sent, late = time.monotonic(), 0, 0.0
    while sent < pace.messages:
        elapsed = time.monotonic() - start
        late = max(late, pace.late(sent, elapsed))
        due = pace.due(elapsed)
        sender.send(messages.keys[sent:due], messages.values[sent:due])
        sent = due
        if sent < pace.messages:
            # Never before the next one is due, which at a low rate is later than the next tick.
            wake = max(elapsed + _TICK, pace.moment(sent))
            time.sleep(max(0.0, start + wake - time.monotonic()))
    seconds = time.monotonic() - start
    sender.finish()
    return Sent(sent, seconds, sent / seconds, late)


def send_all(sender: Sender, blocks: Iterator[Messages]) -> Sent:
    """Send messages as fast as the broker accepts them."""
    start, sent = time.monotonic(), 0
    for block in blocks:
        sender.send(block.keys, block.values)
        sent += len(block.keys)
    sender.finish()
    seconds = time.monotonic() - start
    return Sent(sent, seconds, sent / seconds, 0.0)


def _messages(file: pq.ParquetFile) -> Iterator[Messages]:
    for batch in file.iter_batches(_BLOCK):
        yield from handbook_messages(pa.Table.from_batches([batch]), _AT_ONCE)


def main() -> None:
    """Send the load of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--rows", required=True, type=Path, help="transactions, Parquet")
    parser.add_argument("--rate", type=float, help="messages a second; all at once if absent")
    parser.add_argument("--seconds", type=float, help="how long at that rate")
    options = parser.parse_args()
    sender = Sender(options.kafka, options.topic)
    sender.connect()
    file = pq.ParquetFile(options.rows)
    if options.rate is None:
        sent = send_all(sender, _messages(file))
    else:
        pace = Pace(options.rate, int(options.rate * options.seconds))
        if file.metadata.num_rows < pace.messages:
            raise SystemExit(f"{options.rows}: fewer than {pace.messages} rows")
        messages = Messages([], [])
        for block in _messages(file):
            if len(messages.keys) >= pace.messages:
                break
            messages.keys.extend(block.keys)
            messages.values.extend(block.values)
        # Millions of objects that stay: looking through them would only make messages late.
        gc.freeze()
        sent = send_at(sender, messages, pace)
    print(json.dumps(asdict(sent)))


if __name__ == "__main__":
    main()
