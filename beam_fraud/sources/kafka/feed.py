"""A connected consumer with its read-ahead messages and positions."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from threading import Lock, Thread
from time import monotonic

from beam_fraud.sources.kafka.assignment import Assignment, Outage
from beam_fraud.sources.kafka.batches import LARGE, Chunk, chunks_of, joined
from beam_fraud.sources.kafka.client import Reports, new_consumer
from beam_fraud.sources.kafka.failure import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
    about_topic,
    is_absent,
    is_passing,
)
from beam_fraud.sources.kafka.position import Reading
from beam_fraud.sources.kafka.topic import Partition, partition_name, partition_of

_LOG = logging.getLogger(__name__)
#: Time limit of closing in seconds: a pending commit would wait for an absent broker.
_CLOSE_SECONDS = 3.0
#: Messages per call of the library: few, so that their objects are reused soon.
_BLOCK = 1_000


class Feed:
    """The messages of one sub-source.

    A feed outlives its readers (`pool`). Partitions are assigned, not subscribed to, because the
    runner, not the group, distributes them.
    """

    def __init__(
        self, reading: Reading, resumed: Mapping[str, int] | None, positions: Mapping[str, int]
    ) -> None:
        """Connect and find the first positions.

        Args:
          reading: the share of the topics.
          resumed: positions of a mark of this sub-source; None at the beginning.
          positions: positions of an earlier run, for the beginning.

        Raises:
          UsageError: a property is wrong.
          FraudError: at the beginning, no broker answers or a topic is not there.
        """
        self.reading = reading
        #: Newest event time of the messages (microseconds), for the next reader.
        self.newest: int | None = None
        self._contents = {topic.name: topic.content for topic in reading.topics}
        self._reports = Reports()
        self._outage = Outage(reading.settings, self._reports)
        self._consumer = self._connect()
        self._assignment = Assignment(reading, self._consumer)
        self._ahead: deque[Chunk] = deque()
        #: Offsets of the partition ends that the consumer has reached.
        self._ends: dict[Partition, int] = {}
        self._answered = False
        self._committed: dict[str, int] = {}
        self._commits_logged = False
        #: A runner may finalise a mark in another thread.
        self._lock = Lock()
        #: Whether it is closed.
        self.closed = False
        try:
            if resumed is None:
                self._assignment.begin(positions, self._reports)
            else:
                self._assignment.resume(resumed)
        except BaseException:
            self.close()
            raise

    @property
    def positions(self) -> dict[str, int]:
        """ "topic:partition" to the offset of the next message to hand out."""
        return {partition_name(key): next_ for key, next_ in self._assignment.positions.items()}

    def next(self, wait: float) -> Chunk | None:
        """Return the next messages, or None without any.

        Args:
          wait: seconds to wait for the first.

        Raises:
          FraudError: reading fails permanently.
        """
        if not self._ahead:
            self._read(wait)
        chunk = self._ahead.popleft() if self._ahead else None
        if chunk is not None:
            self._assignment.positions |= chunk.next_offsets
        if not self._ahead:
            self._skip_to_ends()
        return chunk

    def next_messages(self, wait: float) -> list[Message]:
        """Return the next messages as they are, in place of `next`.

        Args:
          wait: seconds to wait for the first.

        Raises:
          FraudError: reading fails permanently.
        """
        failed: list[Message] = []
        messages = [message for block in self._received(wait, failed) for message in block]
        # The last one of a partition counts.
        self._assignment.positions |= {
            (one.topic() or "?", one.partition() or 0): (one.offset() or 0) + 1 for one in messages
        }
        for message in failed:
            self._take_error(message)
        self._skip_to_ends()
        return messages

    @property
    def at_ends(self) -> bool:
        """Return whether the end of every partition was reached, at least once."""
        return self._assignment.positions.keys() <= self._ends.keys()

    @property
    def away(self) -> bool:
        """Return whether no broker answers."""
        return self._outage.lasts

    def at_rest(self) -> bool:
        """Return whether every known message was returned."""
        if self._ahead or self._outage.lasts:
            return False
        if not self._answered:
            self._answered = len(self.lag()) == len(self._assignment.positions)
        if self._answered:
            self._look(doubt=True)
        return self._answered and not self._outage.lasts

    def lag(self) -> dict[str, tuple[int, int]]:
        """ "topic:partition" to its next offset and its end, where the broker has told the end."""
        lags = {}
        for partition, next_offset in self._assignment.positions.items():
            place = TopicPartition(*partition)
            try:
                _, high = self._consumer.get_watermark_offsets(place, cached=True)
            except KafkaException:
                continue
            if high >= 0:
                lags[partition_name(partition)] = (next_offset, max(high, next_offset))
        return lags

    def commit(self, positions: Mapping[str, int]) -> None:
        """Commit positions to the group, for people and other programs; tolerate failures."""
        with self._lock:
            changed = {
                name: offset
                for name, offset in positions.items()
                if self._committed.get(name) != offset
            }
            if self.closed or not changed:
                return
            places = [TopicPartition(*partition_of(name), at) for name, at in changed.items()]
            try:
                self._consumer.commit(offsets=places, asynchronous=True)
                self._committed |= changed
            except KafkaException as error:
                self._commit_failed(error.args[0])

    def close(self) -> None:
        """Disconnect after pending commits; idempotent."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            closing = Thread(target=self._consumer.close, daemon=True)
            closing.start()
            closing.join(_CLOSE_SECONDS)

    def _read(self, wait: float) -> None:
        failed: list[Message] = []
        chunks = chunks_of(self._received(wait, failed), self._contents)
        self._ahead.extend(joined(chunks) if self.reading.together else chunks)
        for message in failed:
            self._take_error(message)

    def _received(self, wait: float, failed: list[Message]) -> Iterator[Sequence[Message]]:
        """Yield the available messages in blocks; collect errors in `failed`."""
        self._assignment.discover()
        self._assignment.replace_gone()
        first = self._poll(wait)
        if first is None:
            self._look()
            return
        received = False
        for block in self._blocks(first, failed):
            received = received or bool(block)
            yield block
        if received:
            self._outage.over()

    def _connect(self) -> Consumer:
        reading = self.reading
        return new_consumer(reading.settings, reading.group, self._reports, self._on_commit)

    def _look(self, *, doubt: bool = False) -> None:
        """Check for an outage, without messages; replace a consumer that has lost the brokers."""
        if not self._outage.look(self._consumer, self.reading.topics[0].name, doubt=doubt):
            return
        with self._lock:
            if self.closed:
                return
            lost, self._consumer = self._consumer, self._connect()
        self._assignment.move(self._consumer)
        Thread(target=lost.close, daemon=True).start()

    def _poll(self, wait: float) -> Message | None:
        """Return the first message within `wait` seconds, skipping partition ends."""
        until = monotonic() + wait
        while (first := self._consumer.poll(max(until - monotonic(), 0.0))) is not None:
            error = first.error()
            if error is None or error.code() != KafkaError._PARTITION_EOF:
                return first
            self._take_error(first)
        return None

    def _skip_to_ends(self) -> None:
        """Advance positions past offsets without messages, after the last message.

        Transaction markers, aborted and compacted messages have offsets but never arrive: a
        position behind the last message would wait for them for ever.
        """
        positions = self._assignment.positions
        for partition, end in self._ends.items():
            positions[partition] = max(positions[partition], end)

    def _blocks(self, first: Message, failed: list[Message]) -> Iterator[Sequence[Message]]:
        """Yield `first` and the available messages in blocks; collect errors in `failed`."""
        messages, left, room = [first], self.reading.micro_batch, LARGE
        while messages:
            left -= len(messages)
            # The library fetches while it is drained: without end, if messages are large.
            room -= sum(map(len, messages))
            wrong = [message for message in messages if message.error() is not None]
            if wrong:
                failed += wrong
                messages = [message for message in messages if message.error() is None]
            yield messages
            # With a timeout it would wait for all of them, not only for the first.
            messages = self._consumer.consume(min(left, _BLOCK), 0) if left and room > 0 else []

    def _take_error(self, message: Message) -> None:
        error, topic, number = message.error(), message.topic(), message.partition()
        assert error is not None
        partition = (topic or "?", number if number is not None else 0)
        if error.code() == KafkaError._PARTITION_EOF:
            self._ends[partition] = message.offset() or 0
        elif error.code() == KafkaError._AUTO_OFFSET_RESET and topic is not None:
            # A recreated topic may begin below its former end.
            self._ends.pop(partition, None)
            self._assignment.gone(partition)
        elif is_passing(error):
            self._reports(error)
        elif is_absent(error):
            self._assignment.doubt()
        else:
            raise about_topic(self.reading.settings, topic or "?", error)

    def _on_commit(self, error: KafkaError | None, _: list[TopicPartition]) -> None:
        if error is not None:
            self._commit_failed(error)

    def _commit_failed(self, error: KafkaError) -> None:
        # The authoritative positions are in the runner's checkpoint; the next commit has these,
        # too.
        self._committed = {}
        if not self._commits_logged and not is_passing(error):
            self._commits_logged = True
            _LOG.warning(
                "Kafka %s: group %r does not take offsets (%s); the stream continues without its "
                "offsets",
                *(self.reading.settings.bootstrap, self.reading.group, error.str()),
            )
