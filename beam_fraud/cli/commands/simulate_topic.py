"""Send simulated transactions to a topic."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

import pyarrow as pa

from beam_fraud.cli.commands.inputs import kafka_settings
from beam_fraud.cli.options import SimulateOptions
from beam_fraud.errors import Code, UsageError
from beam_fraud.monitoring.activity import doing
from beam_fraud.simulate.messages import Sender, handbook_messages
from beam_fraud.sinks.topic import TopicWriter
from beam_fraud.sources.kafka.check import topic_partitions

_LOG = logging.getLogger(__name__)


def to_topic(options: SimulateOptions) -> Callable[[pa.Table], dict[str, object]]:
    """Check the topic of `options`, and return a function that sends transactions to it.

    Its result has the topic's part of the result of `commands.simulate.run`. Interrupted, it waits
    until queued messages are written; a second interruption ends that, too.

    Raises:
      UsageError: an option is missing or invalid.
      FraudError: the topic does not exist, or no broker answers.
    """
    if not options.topic or options.kafka is None:
        raise UsageError("--topic: missing; name the topic to send to", Code.OPTION_MISSING)
    if options.rate is not None and not 0 < options.rate < math.inf:
        raise UsageError(
            f"--rate {options.rate:g}: must be above 0, in messages a second", Code.OPTION_VALUE
        )
    settings = kafka_settings(options.kafka, options)
    topic_partitions(settings, options.topic)
    topic, rate = options.topic, options.rate

    def send(transactions: pa.Table) -> dict[str, object]:
        writer = TopicWriter(settings, topic)
        sender = Sender(writer, rate)
        began = time.perf_counter()
        total = transactions.num_rows
        try:
            with doing(f"sending to {topic}", lambda: f"{sender.sent:,} of {total:,} messages"):
                sender.send(handbook_messages(transactions))
        except KeyboardInterrupt:
            writer.flush()
            _LOG.info("stopped after %d messages, all of them written", sender.sent)
            raise
        with doing(f"waiting for the broker of {topic}"):
            writer.flush()
        seconds = time.perf_counter() - began
        return {
            "topic": topic,
            "messages": sender.sent,
            "sending_seconds": round(seconds, 3),
            "messages_per_second": round(sender.sent / seconds, 1),
        }

    return send
