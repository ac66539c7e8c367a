"""Assign partitions and offsets to a consumer, find new partitions and replace lost offsets."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from time import monotonic

from beam_fraud.errors import Code, FraudError
from beam_fraud.monitoring.waiting import Wait
from beam_fraud.sources.kafka.check import PATIENCE, is_lost, topic_partitions
from beam_fraud.sources.kafka.client import Reports
from beam_fraud.sources.kafka.failure import (
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
    about_topic,
    is_absent,
    is_hopeless,
    is_passing,
    no_connection,
)
from beam_fraud.sources.kafka.position import Reading
from beam_fraud.sources.kafka.settings import KafkaSettings
from beam_fraud.sources.kafka.topic import Partition, first_offsets, partition_of

_LOG = logging.getLogger(__name__)
#: Time limit in seconds of a reader's request to a broker; it is reached only if the broker is
#: away, and then there is nothing to read.
QUICKLY = 1.0
#: Seconds between two requests.
_EVERY = 1.0
#: Seconds without an answer before a check.
SILENT_SECONDS = 5.0
#: Seconds of an outage before, and between, comparisons with a new client.
LOST_SECONDS = 3.0


class Outage:
    """The state of a consumer's connection.

    Connections break for harmless reasons (one of several brokers restarts, one was idle), so a
    client's report only triggers a check, and so does silence: a client that knows no broker
    reports nothing.
    """

    def __init__(self, settings: KafkaSettings, reports: Reports) -> None:
        self._settings, self._reports = settings, reports
        self._wait = Wait(_LOG)
        self._ask_next = 0.0
        self._compare_next = 0.0
        self._answered_at = monotonic()

    @property
    def lasts(self) -> bool:
        """Return whether no broker answers."""
        return self._wait.lasts

    def over(self) -> None:
        """Record that a broker answered."""
        self._answered_at = monotonic()
        self._reports.clear()
        self._wait.over(f"Kafka {self._settings.bootstrap}: the broker is back")

    def look(self, consumer: Consumer, topic: str, *, doubt: bool = False) -> bool:
        """Check, without messages, whether no broker answers.

        Return whether a new consumer is needed, because only this one reaches no broker.

        Args:
          consumer: the consumer that sends the request.
          topic: the topic to request; metadata of all topics would be large.
          doubt: whether to check without a report.

        Raises:
          FraudError: the login is refused, or there is no TLS.
        """
        silent = monotonic() - self._answered_at >= SILENT_SECONDS
        doubt = doubt or silent or self.lasts or bool(self._reports.errors)
        if not doubt or monotonic() < self._ask_next:
            return False
        try:
            consumer.list_topics(topic, timeout=QUICKLY)
        except KafkaException:
            self._ask_next = monotonic() + _EVERY
            if any(map(is_hopeless, self._reports.errors)):
                raise no_connection(self._settings, self._reports.errors) from None
            self._wait.goes_on(f"Kafka {self._settings.bootstrap}: the broker is not reachable")
            if self._wait.seconds < LOST_SECONDS or monotonic() < self._compare_next:
                return False
            lost = is_lost(consumer, self._settings, topic, QUICKLY)
            self._compare_next = monotonic() + LOST_SECONDS
            return lost
        self.over()
        return False


#: A broker that has just started may not know a topic yet, so retry.
_ABSENT_TIMES = 3


class Assignment:
    """The partitions of one sub-source."""

    def __init__(self, reading: Reading, consumer: Consumer) -> None:
        self._reading, self._consumer = reading, consumer
        #: Offset of the next message to return, per partition.
        self.positions: dict[Partition, int] = {}
        #: Positions that the consumer was wrongly given.
        self._gone: set[Partition] = set()
        self._absent = dict.fromkeys((topic.name for topic in reading.topics), 0)
        self._discover_next = 0.0

    def resume(self, positions: Mapping[str, int]) -> None:
        """Resume at the positions of a mark; newer partitions are discovered later."""
        self._assign({partition_of(name): offset for name, offset in positions.items()})

    def begin(self, resumed: Mapping[str, int], reports: Reports) -> None:
        """Find the partitions and their first offsets.

        Args:
          resumed: positions of an earlier run, of all sub-sources; a partition without a position
            is new if other partitions of its topic have one.
          reports: reports of the consumer.

        Raises:
          FraudError: no broker answers, or a topic does not exist.
        """
        positions = {partition_of(name): offset for name, offset in resumed.items()}
        known = {topic for topic, _ in positions}
        settings = self._reading.settings
        offsets: dict[Partition, int] = {}
        fresh: list[Partition] = []
        later: list[Partition] = []
        for topic in self._reading.topics:
            for number in topic_partitions(settings, topic.name):
                partition = (topic.name, number)
                if not self._reading.owns(partition):
                    continue
                if partition in positions:
                    offsets[partition] = positions[partition]
                else:
                    (later if topic.name in known else fresh).append(partition)
        offsets |= self._first_offsets(fresh, reports)
        self._discover_next = monotonic() + self._reading.discover_seconds
        self._assign(offsets)
        for partition in later:
            # Treat it as a partition discovered while reading.
            self._add(partition)

    def discover(self) -> None:
        """Add new partitions, if a check is due.

        Raises:
          FraudError: a topic no longer exists.
        """
        if monotonic() < self._discover_next:
            return
        self._discover_next = monotonic() + self._reading.discover_seconds
        for topic in self._reading.topics:
            try:
                entry = self._consumer.list_topics(topic.name, timeout=QUICKLY).topics[topic.name]
            except KafkaException:
                # `Outage` reports an absent broker.
                self._discover_next = monotonic() + min(1.0, self._reading.discover_seconds)
                continue
            absent = entry.error is not None and is_absent(entry.error)
            self._absent[topic.name] = self._absent[topic.name] + 1 if absent else 0
            if absent:
                self._discover_next = monotonic() + min(1.0, self._reading.discover_seconds)
                if self._absent[topic.name] >= _ABSENT_TIMES:
                    raise about_topic(self._reading.settings, topic.name, entry.error)
            for number in entry.partitions:
                partition = (topic.name, number)
                if partition not in self.positions and self._reading.owns(partition):
                    _LOG.info("Kafka topic %s: reading its new partition %d", topic.name, number)
                    self._add(partition)

    def move(self, consumer: Consumer) -> None:
        """Continue with another consumer, at the positions."""
        self._consumer = consumer
        self._assign(dict(self.positions))

    def doubt(self) -> None:
        """Check soon whether the topics still exist."""
        self._discover_next = min(self._discover_next, monotonic() + _EVERY)

    def gone(self, partition: Partition) -> None:
        """Record that the broker has no message at the position of a partition."""
        self._gone.add(partition)
        self.replace_gone()

    def replace_gone(self) -> None:
        """Move lost positions to the first existing message."""
        for partition in sorted(self._gone):
            topic, number = partition
            place = TopicPartition(topic, number)
            try:
                low, high = self._consumer.get_watermark_offsets(place, timeout=QUICKLY)
            except KafkaException:
                # Retry when the broker answers again.
                continue
            position = self.positions[partition]
            if position < low:
                lost = f"the broker has deleted {low - position} messages before they were read"
            else:
                lost = f"the topic was made anew or has lost messages (it ends at {high})"
            _LOG.warning(
                "Kafka topic %s, partition %d: nothing is at offset %d: %s; reading on from %d",
                *(topic, number, position, lost, low),
            )
            self._consumer.incremental_unassign([place])
            self._gone.discard(partition)
            self._assign({partition: low})

    def _add(self, partition: Partition) -> None:
        # If its first messages are already deleted, the consumer reports it.
        self._assign({partition: 0})

    def _assign(self, positions: Mapping[Partition, int]) -> None:
        if positions:
            self._consumer.incremental_assign(
                [TopicPartition(*partition, offset) for partition, offset in positions.items()]
            )
            self.positions.update(positions)

    def _first_offsets(self, partitions: list[Partition], reports: Reports) -> dict[Partition, int]:
        until = monotonic() + PATIENCE
        while True:
            try:
                return first_offsets(self._consumer, partitions, self._reading.start, PATIENCE)
            except KafkaException as raised:
                error = raised.args[0]
                if not (is_passing(error) or is_absent(error)) or monotonic() > until:
                    raise self._refused(error, partitions, reports) from None
                # A broker that has just started needs a moment to load its groups and topics.
                self._consumer.poll(0.1)

    def _refused(
        self, error: KafkaError, partitions: list[Partition], reports: Reports
    ) -> FraudError:
        settings = self._reading.settings
        if is_passing(error):
            return no_connection(settings, reports.errors)
        if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return FraudError(
                f"Kafka {settings.bootstrap}: this login is not allowed to use the group "
                f"{self._reading.group!r}; give another one by --kafka-config group.id=NAME",
                Code.TOPIC_FORBIDDEN,
            )
        return about_topic(settings, partitions[0][0], error)
