"""How a topic is written as a URL: `kafka://HOST:PORT/TOPIC?config=KEY=VALUE`."""

from __future__ import annotations

import re
from urllib.parse import unquote

from beam_fraud.alerts.options import parse_options
from beam_fraud.alerts.policy import AS_THEY_COME
from beam_fraud.alerts.topic import TopicChannel
from beam_fraud.errors import FraudError, UsageError
from beam_fraud.kafka.properties import parse_properties
from beam_fraud.kafka.settings import KafkaSettings

FORM = "kafka://HOST:PORT/TOPIC"
_PARTS = re.compile(r"//([^/?#]*)/([^/?#]+)(?:\?([^#]*))?")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
#: Milliseconds that a record may take: after them it waits in the outbox, and not in the client.
_PATIENCE = ("message.timeout.ms", "10000")


def topic_channel(rest: str) -> TopicChannel:
    """The channel of a `kafka:` URL, without its scheme; nothing is connected to.

    Raises:
      UsageError: it is not written so.
      FraudError: the client library is not installed.
    """
    parts = _PARTS.fullmatch(rest)
    topic = unquote(parts[2]) if parts else ""
    if parts is None or not _TOPIC.fullmatch(topic):
        raise UsageError(f"--alert: no brokers and topic can be read, write {FORM}")
    where = f"--alert kafka://{parts[1].rpartition('@')[2]}/{topic}"
    options = parse_options(where, parts[3] or "", ("config",))
    try:
        properties = dict([_PATIENCE, *parse_properties("--kafka-config", options.config)])
        settings = KafkaSettings(parts[1], tuple(properties.items()))
    except FraudError as error:
        said = str(error).replace("--kafka-config", "config").replace("--kafka: ", "")
        raise type(error)(f"{where}: {said}") from None
    return TopicChannel(settings, topic, options.policy(AS_THEY_COME), options.fields())
