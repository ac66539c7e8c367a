"""Write to a topic in transactions that record how far the writer has come."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from beam_fraud.errors import Code, FraudError
from beam_fraud.monitoring.waiting import Wait
from beam_fraud.sources.kafka.check import is_lost
from beam_fraud.sources.kafka.client import Reports, new_consumer, new_producer
from beam_fraud.sources.kafka.failure import (
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
    about_topic,
    is_hopeless,
    no_connection,
)
from beam_fraud.sources.kafka.settings import KafkaSettings

_LOG = logging.getLogger(__name__)
_Result = TypeVar("_Result")
#: Time limit in seconds of one request to the broker; requests are repeated.
_SECONDS = 10.0
#: Time limit in seconds of a request on a connection in doubt.
_COMPARE_SECONDS = 3.0
#: Attempts at a transaction that the broker has aborted.
_ATTEMPTS = 5
#: Errors of messages that no broker has seen; their transaction is written again.
_UNSENT = (KafkaError._MSG_TIMED_OUT, KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)


class _LostError(Exception):
    """A broker answers new clients, but not this one."""


class TopicTransactions:
    """Messages and a position appear in one transaction: both, or neither.

    The position is the offset that a consumer group of the same name has committed. A writer of
    the same name that comes later ends the transaction of one that was killed.
    """

    def __init__(self, settings: KafkaSettings, topic: str, name: str) -> None:
        """Connect, and exclude other writers of the same name.

        Args:
          settings: connection settings.
          topic: the topic.
          name: id of the transactions and name of the group.

        Raises:
          FraudError: the broker refuses the topic or transactions. While it is down, the call
            waits.
          UsageError: the settings are invalid.
        """
        self._settings, self._topic, self._name = settings, topic, name
        # Otherwise the position of a transaction that is not complete yet might be read.
        isolated = (*settings.properties, ("isolation.level", "read_committed"))
        self._committed = replace(settings, properties=isolated)
        self._reports = Reports()
        self._wait = Wait(_LOG)
        self._position = TopicPartition(topic, 0)
        #: The last position that is known; None before the first.
        self._last: int | None = None
        self._refused: KafkaError | None = None
        self._connect()

    def position(self) -> int | None:
        """Return the last position; None if there is none, or the broker has forgotten it."""
        while True:
            try:
                [known] = self._patiently(lambda: self._group.committed([self._position], _SECONDS))
            except _LostError:
                self._connect()
                continue
            self._last = known.offset if known.offset >= 0 else None
            return self._last

    def write(self, values: Sequence[bytes], keys: Sequence[str], position: int) -> None:
        """Write messages and a position.

        Args:
          values: n messages.
          keys: n keys; messages of one key go to one partition.
          position: greater than every one before.

        Raises:
          FraudError: the broker refuses a message, or aborts the transaction again and again; or
            another writer of the same name has gone on while this one had no connection.
        """
        attempt = 1
        while True:
            try:
                self._write(values, keys, position)
                self._last = position
                return
            except _LostError:
                if self._is_complete(position):
                    return
            except KafkaException as error:
                self._abort(error.args[0], position, last=attempt == _ATTEMPTS)
                attempt += 1

    def close(self) -> None:
        """Release the connections."""
        self._group.close()

    def _connect(self) -> None:
        """Connect, and exclude other writers of the same name; wait while no broker answers."""
        while True:
            self._group = new_consumer(self._committed, self._name, self._reports)
            self._producer = new_producer(
                self._settings,
                self._reports,
                {"transactional.id": self._name, "message.timeout.ms": 60_000},
            )
            try:
                self._patiently(lambda: self._producer.init_transactions(_SECONDS))
                return
            except _LostError:
                continue

    def _is_complete(self, position: int) -> bool:
        """Connect again, which aborts a transaction unless it is complete; return whether it is.

        Raises:
          FraudError: another writer of the same name has gone on meanwhile.
        """
        before = self._last
        self._connect()
        now = self.position()
        if now not in (before, position):
            raise FraudError(
                f"Kafka {self._settings.bootstrap}: topic {self._topic!r}: another run has gone on "
                "while this one had no connection; run again",
                Code.TOPIC_FAILED,
            )
        return now == position

    def _abort(self, reason: KafkaError, position: int, *, last: bool) -> None:
        """Abort a failed transaction; raise its error if the broker refuses it, or after the last
        attempt.
        """
        if not reason.txn_requires_abort():
            raise about_topic(self._settings, self._topic, reason) from None
        try:
            self._patiently(lambda: self._producer.abort_transaction(_SECONDS))
        except _LostError:
            self._is_complete(position)
        if self._refused is not None or last:
            raise about_topic(self._settings, self._topic, self._refused or reason) from None

    def _write(self, values: Sequence[bytes], keys: Sequence[str], position: int) -> None:
        self._refused = None
        self._producer.begin_transaction()
        messages = [{"value": v, "key": k} for v, k in zip(values, keys, strict=True)]
        while self._producer.produce_batch(
            self._topic, messages, on_delivery=self._delivered
        ) < len(messages):
            messages = [message for message in messages if message.pop("_error", None)]
            self._producer.poll(0.1)
        offset = [TopicPartition(self._topic, 0, position)]
        group = self._group.consumer_group_metadata()
        self._patiently(lambda: self._producer.send_offsets_to_transaction(offset, group, _SECONDS))
        self._patiently(lambda: self._producer.commit_transaction(_SECONDS))

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and error.code() not in _UNSENT and self._refused is None:
            self._refused = error

    def _patiently(self, request: Callable[[], _Result]) -> _Result:
        """Repeat a request while no broker answers.

        Raises:
          KafkaException: the transaction must be aborted.
          FraudError: the request is refused.
          _LostError: only these connections reach no broker.
        """
        where = f"Kafka {self._settings.bootstrap}"
        while True:
            try:
                result = request()
            except KafkaException as error:
                reason = error.args[0]
                if reason.txn_requires_abort():
                    raise
                if any(map(is_hopeless, self._reports.errors)):
                    raise no_connection(self._settings, self._reports.errors) from None
                silent = reason.code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT)
                if not (silent or reason.retriable()):
                    raise about_topic(self._settings, self._topic, reason) from None
                self._wait.goes_on(f"{where}: no answer; the back-fill waits for the broker")
                if silent and self._is_lost():
                    raise _LostError from None
                continue
            self._wait.over(f"{where}: the broker answers")
            return result

    def _is_lost(self) -> bool:
        return any(
            is_lost(client, self._settings, self._topic, _COMPARE_SECONDS)
            for client in (self._producer, self._group)
        )
