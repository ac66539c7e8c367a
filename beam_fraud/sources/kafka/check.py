"""Check topics and brokers before the launch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from shlex import quote
from time import monotonic, sleep

from beam_fraud.errors import Code, FraudError
from beam_fraud.sources.kafka.client import Reports, new_admin, new_consumer
from beam_fraud.sources.kafka.failure import (
    ClusterMetadata,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    about_topic,
    is_absent,
    is_hopeless,
    is_passing,
    no_connection,
)
from beam_fraud.sources.kafka.settings import KafkaSettings
from beam_fraud.wording import did_you_mean

#: Time limit of a broker's response in seconds.
PATIENCE = 10.0
#: Maximum wait in seconds for the topics of a broker that has none: it may have just started.
_LOADING_SECONDS = 2.0
#: Seconds of a request between two checks of the client's reports.
_ATTEMPT = 1.0
#: Message about brokers without topic ids.
_WITHOUT_IDS = (KafkaError._UNSUPPORTED_FEATURE, KafkaError.UNSUPPORTED_VERSION)
#: Maximum of topics named if none is similar.
_NAMED = 5


def topic_partitions(settings: KafkaSettings, topic: str, seconds: float = PATIENCE) -> list[int]:
    """Return the sorted partitions of a topic, without creating it.

    Args:
      settings: connection settings.
      topic: its name.
      seconds: time limit of the response.

    Raises:
      UsageError: a property is wrong.
      FraudError: no broker answers, the login is refused, or it sees no such topic.
    """
    until = monotonic() + min(_LOADING_SECONDS, seconds)
    with _asking(settings, seconds) as ask:
        while True:
            metadata = ask.metadata(topic).topics[topic]
            if metadata.error is None and metadata.partitions:
                return sorted(metadata.partitions)
            if metadata.error is not None and not is_absent(metadata.error):
                raise about_topic(settings, topic, metadata.error)
            known = sorted(name for name in ask.metadata().topics if not name.startswith("__"))
            if known or monotonic() > until:
                break
            sleep(0.2)
    raise FraudError(
        f"Kafka {settings.bootstrap}: there is no topic {topic!r} "
        f"({_others(topic, known)}); to create it: kafka-topics.sh --create "
        f"--bootstrap-server {settings.bootstrap} --topic {quote(topic)}",
        Code.TOPIC_MISSING,
    )


def topic_ids(
    settings: KafkaSettings, topics: Sequence[str], seconds: float = PATIENCE
) -> dict[str, str]:
    """Return the ids of existing topics by name; a recreated topic has a new id.

    Topics of brokers older than 2.8 have no id and are left out.

    Args:
      settings: connection settings.
      topics: their names.
      seconds: time limit of the response.

    Raises:
      UsageError: a property is wrong.
      FraudError: no broker answers, or a topic cannot be used.
    """
    reports = Reports()
    admin = new_admin(settings, reports)
    futures = admin.describe_topics(TopicCollection(list(topics)), request_timeout=seconds)
    ids = {}
    for topic, answer in futures.items():
        try:
            number = answer.result().topic_id
        except KafkaException as raised:
            error = raised.args[0]
            if error.code() in _WITHOUT_IDS:
                continue
            if is_passing(error):
                raise no_connection(settings, reports.errors) from None
            raise about_topic(settings, topic, error) from None
        if number.get_most_significant_bits() or number.get_least_significant_bits():
            ids[topic] = str(number)
    return ids


def is_lost(
    client: Consumer | Producer, settings: KafkaSettings, topic: str, seconds: float
) -> bool:
    """Return whether a client reaches no broker, but a new client does.

    A broker that stops may report a cluster without brokers; librdkafka (2.10 to 2.16 at least)
    then forgets all of them for ever: github.com/confluentinc/librdkafka/issues/5301.

    Args:
      client: the client.
      settings: its connection settings.
      topic: a topic that exists.
      seconds: time limit of each of the two requests.
    """
    try:
        client.list_topics(topic, timeout=seconds)
    except KafkaException:
        pass
    else:
        return False
    try:
        return bool(topic_partitions(settings, topic, seconds))
    except FraudError:
        return False


def brokers(settings: KafkaSettings) -> int:
    """Return the number of brokers.

    Args:
      settings: connection settings.

    Raises:
      UsageError: a property is wrong.
      FraudError: no broker answers, or the login is refused.
    """
    with _asking(settings, PATIENCE) as ask:
        return len(ask.metadata().brokers)


class _Asker:
    def __init__(
        self, consumer: Consumer, settings: KafkaSettings, reports: Reports, seconds: float
    ) -> None:
        self._consumer, self._settings, self._reports = consumer, settings, reports
        self._until = monotonic() + seconds

    def metadata(self, topic: str | None = None) -> ClusterMetadata:
        """Return the brokers' metadata of a topic, or of all."""
        while True:
            left = self._until - monotonic()
            try:
                wait = max(0.01, min(_ATTEMPT, left))
                cluster: ClusterMetadata = self._consumer.list_topics(topic, timeout=wait)
                return cluster
            except KafkaException:
                # Polling delivers reports.
                self._consumer.poll(0.05)
                if left <= 0 or any(map(is_hopeless, self._reports.errors)):
                    raise no_connection(self._settings, self._reports.errors) from None


@contextmanager
def _asking(settings: KafkaSettings, seconds: float) -> Iterator[_Asker]:
    reports = Reports()
    # A metadata request joins no group.
    consumer = new_consumer(settings, "beam-fraud", reports)
    try:
        yield _Asker(consumer, settings, reports, seconds)
    finally:
        consumer.close()


def _others(topic: str, known: list[str]) -> str:
    if hint := did_you_mean(topic, known, most=3):
        return hint
    if not known:
        return "it has none; create one"
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    return f"it has {', '.join(map(repr, known[:_NAMED]))}{more}"
