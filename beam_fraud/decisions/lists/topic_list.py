"""A list from a compacted topic: a key is a value, and the message its entry."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from operator import methodcaller
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.decisions.lists.changes import CHANGES, Change
from beam_fraud.decisions.lists.keys import TopicKeys
from beam_fraud.decisions.lists.source import ListSource, Update
from beam_fraud.errors import FraudError
from beam_fraud.sources.kafka.failure import Message, no_connection
from beam_fraud.sources.kafka.feed import Feed
from beam_fraud.sources.kafka.position import Reading
from beam_fraud.sources.kafka.settings import KafkaSettings
from beam_fraud.sources.kafka.topic import EARLIEST, KafkaTopic

_LOG = logging.getLogger(__name__)
#: Seconds that a read waits for the first message.
_WAIT_SECONDS: Final = 0.5
#: Messages per read.
_TOGETHER = 20_000
#: Seconds between two checks for new partitions.
_DISCOVER_SECONDS = 10.0


class _Entry(msgspec.Struct, gc=False):
    """The message of an entry."""

    #: Event time from which on it has no effect.
    until: datetime | None = None
    reason: str | None = None
    who: str | None = None


_ENTRY = msgspec.json.Decoder(_Entry)
_VALUE, _KEY = methodcaller("value"), methodcaller("key")


class TopicList(ListSource):
    """The messages of a topic: the last one of a key counts, and one without a value removes it.

    Args:
      name: of the list.
      keys: the topic and its brokers.
      directory: base of relative paths.

    Raises:
      UsageError: a property is wrong.
      FraudError: the client library is not installed, or a file cannot be read.
    """

    look_seconds = 0.5

    def __init__(self, name: str, keys: TopicKeys, directory: Path) -> None:
        self._name, self._topic = name, keys.name
        file = None
        if keys.properties is not None:
            file = directory.absolute() / Path(keys.properties).expanduser()
        try:
            config = [f"{key}={value}" for key, value in keys.config.items()]
            settings = KafkaSettings.of(keys.kafka, config, file)
        except FraudError as error:
            raise self._named(error) from None
        self._reading = Reading(
            settings,
            (KafkaTopic(keys.name),),
            "beam-fraud-lists",
            EARLIEST,
            _TOGETHER,
            _DISCOVER_SECONDS,
        )
        self._feed: Feed | None = None

    def read_all(self) -> Update:
        """Return all messages up to the end of the topic."""
        parts = [self._changes(messages) for messages in self._whole()]
        return Update(pa.concat_tables([CHANGES.empty_table(), *parts]), whole=True)

    def _whole(self) -> Iterator[list[Message]]:
        """Connect, and yield the messages up to the end of every partition."""
        self.close()
        try:
            feed = self._feed = Feed(self._reading, None, {})
            while not feed.at_ends:
                if feed.away:
                    raise no_connection(self._reading.settings, ())
                yield feed.next_messages(_WAIT_SECONDS)
        except FraudError as error:
            self.close()
            raise self._named(error) from None

    def read_new(self) -> Update | None:
        """Return the new messages; all if the topic was deleted and created again."""
        feed = self._feed
        if feed is None:
            return self.read_all()
        before = dict(feed.positions)
        try:
            messages = feed.next_messages(_WAIT_SECONDS)
        except FraudError as error:
            # What is read next is the whole topic.
            self.close()
            raise self._named(error) from None
        if _went_back(before, feed.positions):
            return self.read_all()
        return Update(self._changes(messages)) if messages else None

    def _changes(self, messages: list[Message]) -> pa.Table:
        keys, values = [*map(_KEY, messages)], [*map(_VALUE, messages)]
        decode = _ENTRY.decode
        try:
            ends = [None if value is None else decode(value).until for value in values]
            texts = pa.array(keys, pa.binary()).cast(pa.string())
        except (msgspec.DecodeError, pa.ArrowInvalid):
            return self._changes(self._readable(messages))
        if texts.null_count:
            return self._changes(self._readable(messages))
        removed = pa.array(value is None for value in values)
        until = pa.array(ends, CHANGES.field("until").type)
        actions = pc.if_else(removed, "remove", "add")
        return pa.table([texts, actions, until], schema=CHANGES)

    def _readable(self, messages: list[Message]) -> list[Message]:
        """Return the messages that can be read; report the others."""
        refused = [message for message in messages if not _is_readable(message)]
        if refused:
            first = refused[0]
            _LOG.error(
                "list %s: %s messages have no key, or are no JSON of until, reason and who: they "
                "change nothing; the first is at %s:%s:%s",
                *(self._name, f"{len(refused):,}", first.topic(), first.partition()),
                first.offset(),
            )
        return [message for message in messages if _is_readable(message)]

    def history(self) -> list[Change]:
        """Return the messages that the topic still has."""
        changes: list[tuple[datetime, Change]] = []
        for messages in self._whole():
            for message in self._readable(messages):
                at = datetime.fromtimestamp(max(message.timestamp()[1], 0) / 1000, UTC)
                key, value = message.key(), message.value()
                text = key.decode() if isinstance(key, bytes) else str(key)
                if value is None:
                    changes.append((at, Change(text, "remove", at, "")))
                else:
                    entry = _ENTRY.decode(value)
                    end, who = _in_utc(entry.until), entry.who or ""
                    changes.append((at, Change(text, "add", at, who, end, entry.reason)))
        self.close()
        # Messages of one value are in one partition, and stay in their order.
        return [change for _, change in sorted(changes, key=lambda pair: pair[0])]

    def describe(self) -> str:
        """Return the topic and its brokers."""
        return f"topic {self._topic} of Kafka {self._reading.settings.bootstrap}"

    def close(self) -> None:
        """Disconnect."""
        feed, self._feed = self._feed, None
        if feed is not None:
            feed.close()

    def _named(self, error: FraudError) -> FraudError:
        """Name the list in an error, and its keys instead of options."""
        text = str(error).replace("--kafka-config", "config").replace("--kafka", "kafka")
        text = text.replace("a secret on the command line", "a secret in this file")
        return error.with_message(f"list {self._name}: {text}")


def _is_readable(message: Message) -> bool:
    key, value = message.key(), message.value()
    try:
        if isinstance(key, bytes):
            key.decode()
        if value is not None:
            _ENTRY.decode(value)
    except (UnicodeDecodeError, msgspec.DecodeError):
        return False
    return key is not None


def _went_back(before: Mapping[str, int], now: Mapping[str, int]) -> bool:
    return any(now.get(name, 0) < offset for name, offset in before.items())


def _in_utc(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
