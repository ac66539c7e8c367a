"""Send the alerts of one channel."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from beam_fraud.alerts.channels.channel import (
    Channel,
    ChannelState,
    MessageRefusedError,
    TryLaterError,
)
from beam_fraud.alerts.claim import Claim
from beam_fraud.alerts.deliveries import (
    Delivery,
    drop,
    due_deliveries,
    has_pending,
    mark_refused,
    mark_sent,
    note_error,
    try_all_now,
)
from beam_fraud.alerts.fixing import fix
from beam_fraud.alerts.policy import Clock
from beam_fraud.errors import FraudError
from beam_fraud.monitoring.waiting import Wait
from beam_fraud.storage.database.connection import transaction, writing
from beam_fraud.storage.database.errors import (
    FullDatabaseError,
    PassingDatabaseError,
    one_line_errors,
)
from beam_fraud.wording import own_call, printable

#: Consecutive failures that open the circuit.
OPENS_AFTER = 3
#: Seconds of the first pause and of the longest; each failure doubles the pause. The first is short
#: because an occasional failure should delay little.
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 60.0


@dataclass
class Circuit:
    """A circuit breaker: pause attempts at a failing receiver. Times are monotonic seconds.

    Each failure starts a pause, up to twice as long as the last. After a pause one trial is due: a
    failure starts the next pause, a success closes the circuit. A pause lasts a random part of its
    length, at least half, so that senders that failed together do not retry together.
    """

    #: Consecutive failures.
    failures: int = 0
    #: Time of the next trial.
    next_try: float = 0.0

    @property
    def open(self) -> bool:
        """Return whether the circuit is open: the next attempt is expected to fail."""
        return self.failures >= OPENS_AFTER

    def pause(self, now: float) -> float:
        """Return the seconds until the next trial; 0 if a trial is due."""
        return max(0.0, self.next_try - now)

    def failed(self, now: float) -> bool:
        """Record a failure; return whether it opened the circuit."""
        longest = min(FIRST_PAUSE * 2.0 ** min(self.failures, 30), LONGEST_PAUSE)
        self.failures += 1
        self.next_try = now + random.uniform(longest / 2, longest)
        return self.failures == OPENS_AFTER

    def wait(self, now: float, seconds: float) -> None:
        """Make no attempt for `seconds`, as the receiver asked."""
        self.next_try = now + seconds

    def succeeded(self) -> bool:
        """Record a success; return whether the circuit was open."""
        was_open, self.failures, self.next_try = self.open, 0, 0.0
        return was_open


_LOG = logging.getLogger(__name__)
#: Refusals after which the sender gives a message up.
REFUSALS = 5
#: Seconds to the first retry of a refused message; each further refusal multiplies them by four.
RETRY_REFUSED_AFTER = 30.0
#: Seconds between two attempts to take the claim.
_LOOK_FOR_CLAIM_EVERY = 0.5
#: Seconds between two commits of accepted messages: each commit waits for the disk.
_MARK_EVERY = 0.02
#: Maximum of characters stored of an error.
_LONGEST_ERROR = 500
#: Minimum seconds between two attempts, even if the receiver asks for none.
_SHORTEST_PAUSE = 0.05


class ChannelSender:
    """Group a channel's alerts into messages and send them; for one thread.

    The sender fixes the contents of a message before the first attempt and marks the message as
    sent after the receiver accepted it. If the process dies in between, the next sender repeats the
    identical message: no message is lost.
    """

    def __init__(self, url: str, channel: Channel, clock: Clock) -> None:
        self.channel = channel
        #: State of the channel.
        self.state = ChannelState()
        self._url = url
        self._clock = clock
        self._claim = Claim(url, channel.name)
        self._circuit = Circuit()
        self._database = Circuit()
        self._database_error: FraudError | None = None
        self._wait, self._database_wait = (Wait(_LOG, clock.elapsed) for _ in range(2))
        self._look_for_claim_at = 0.0
        self._held_until: datetime | None = None
        self._batch = False
        #: Accepted deliveries and their times, not committed yet.
        self._accepted: dict[str, datetime] = {}
        self._mark_at = 0.0
        self._newest: datetime | None = None

    def pause(self) -> float:
        """Return the seconds until the next attempt."""
        now = self._clock.elapsed()
        return max(
            self._circuit.pause(now), self._database.pause(now), self._look_for_claim_at - now, 0.0
        )

    def attempt(self) -> bool:
        """Send the due messages in order, unless the circuit pauses.

        Returns:
          Whether every due message was sent; otherwise the state holds the reason.
        """
        if self.pause() == 0:
            return self._attempt(final=False, only=None)
        self._log_waits()
        return False

    def flush(
        self,
        patience: float,
        only: Collection[str] | None = None,
        stop: threading.Event | None = None,
        *,
        batch: bool = False,
    ) -> None:
        """Send every pending, unsnoozed alert now, without pauses and spans.

        Args:
          patience: seconds of retries for a failing channel since its last accepted message.
          only: ids of deliveries to send; None for all.
          stop: event that ends the waits.
          batch: whether the pending alerts are a whole batch, which a policy may put into one
            message.

        Raises:
          FraudError: the database cannot be reached.
        """
        stop, self._batch = threading.Event() if stop is None else stop, batch
        deadline = self._clock.elapsed() + patience
        self._circuit.next_try = 0.0
        first, sent = True, self.state.sent
        try:
            while not self._attempt(final=True, only=only, first=first):
                first = first and self._database_error is not None
                if self.state.sent > sent:
                    sent, deadline = self.state.sent, self._clock.elapsed() + patience
                if self.state.elsewhere and not self._has_pending(only):
                    break
                self._log_waits()
                pause = max(self.pause(), _SHORTEST_PAUSE)
                if self._clock.elapsed() + pause >= deadline or stop.wait(pause):
                    break
        finally:
            self.close()
        if self._database_error is not None:
            raise FraudError(str(self._database_error), self._database_error.code)

    def close(self) -> None:
        """Close the channel and the connection, and release the claim."""
        with suppress(FraudError, OSError):
            self.channel.close()
        self._claim.release()

    def _attempt(self, *, final: bool, only: Collection[str] | None, first: bool = False) -> bool:
        try:
            done = self._send_due(final=final, only=only, first=first)
        except FraudError as error:
            self._database_failed(error)
            waited_for = isinstance(error, PassingDatabaseError)
            if final and (not waited_for or isinstance(error, FullDatabaseError)):
                raise
            return False
        if self._database_error is not None:
            self._database_error = None
            self._database.succeeded()
            self._database_wait.over(f"alerts for {self.channel.describe()}: the outbox is back")
        return done

    def _log_waits(self) -> None:
        """Log long waits and their reasons, at the intervals of a `Wait`."""
        where = f"alerts for {self.channel.describe()}"
        if self._database_error is not None:
            self._database_wait.goes_on(
                f"{where}: the outbox cannot be used now; retrying: {self._database_error}"
            )
        elif self._circuit.open and self.state.error is not None:
            self._wait.goes_on(f"{where} wait in the outbox; retrying: {self.state.error}")

    def _send_due(self, *, final: bool, only: Collection[str] | None, first: bool) -> bool:
        connection = self._claim.take()
        self._log_elsewhere(connection is None)
        if connection is None:
            self._look_for_claim_at = self._clock.elapsed() + _LOOK_FOR_CLAIM_EVERY
            return False
        self._mark_accepted(connection)
        if first:
            with writing(self._url, connection):
                try_all_now(connection, self.channel.name)
        while True:
            with one_line_errors(self._url), connection.begin():
                due = due_deliveries(
                    connection,
                    self.channel.name,
                    self._clock.now(),
                    self.channel.policy,
                    only,
                )
            for delivery in due:
                if not self._send(connection, delivery):
                    return False
                if self._clock.elapsed() >= self._mark_at:
                    self._mark_accepted(connection)
            self._mark_accepted(connection)
            if not due and (only is not None or not self._fix(connection, final=final)):
                return True

    def _fix(self, connection: Connection, *, final: bool) -> int:
        now = self._clock.now()
        if self._held_until is not None and now < self._held_until and not final:
            return 0
        # Use each time once: deliveries are ordered by time.
        moment = now if self._newest is None else max(now, self._newest)
        fixed = fix(
            self._url,
            connection,
            self.channel.name,
            self.channel.policy,
            moment,
            final=final,
            batch=self._batch,
        )
        self._held_until = fixed.held_until
        if fixed.deliveries:
            self._newest = moment + timedelta(microseconds=fixed.deliveries)
        return fixed.deliveries

    def _send(self, connection: Connection, delivery: Delivery) -> bool:
        """Send one message; return whether to go on with the next."""
        message = delivery.message
        if delivery.empty:
            with writing(self._url, connection):
                drop(connection, message.delivery_id)
            return True
        try:
            self.channel.send(message)
        except MessageRefusedError as error:
            self._refused(connection, delivery, str(error))
        except TryLaterError as error:
            self._circuit.wait(self._clock.elapsed(), error.seconds)
            self._failed(connection, message.delivery_id, error)
            return False
        except (FraudError, OSError) as error:
            self._circuit.failed(self._clock.elapsed())
            self._failed(connection, message.delivery_id, error)
            return False
        except Exception as error:
            # A message that breaks a channel must not delay later messages.
            self._refused(connection, delivery, f"{type(error).__name__}: {error}")
        else:
            self._sent(connection, delivery)
        return True

    def _sent(self, connection: Connection, delivery: Delivery) -> None:
        message = delivery.message
        self._circuit.succeeded()
        self._wait.over(f"alerts for {self.channel.describe()} are sent again,")
        self.state.error, self.state.open = None, False
        # Keep acceptances in memory: if the database is down now, commit them later.
        self._accepted[message.delivery_id] = self._clock.now()
        self.state.sent += message.total
        if message.kind == "digest":
            self.state.digested += message.total

    def _mark_accepted(self, connection: Connection) -> None:
        if self._accepted:
            with writing(self._url, connection):
                mark_sent(connection, self._accepted)
            self._accepted.clear()
        self._mark_at = self._clock.elapsed() + _MARK_EVERY

    def _failed(self, connection: Connection, delivery_id: str, error: Exception) -> None:
        reason = _one_line(str(error))
        self.state.error, self.state.open = reason, self._circuit.open
        self._log_waits()
        self._mark_accepted(connection)
        with writing(self._url, connection):
            note_error(connection, delivery_id, reason)

    def _refused(self, connection: Connection, delivery: Delivery, error: str) -> None:
        reason, refusals = _one_line(error), delivery.refusals + 1
        message = delivery.message
        final = refusals >= REFUSALS
        pause = timedelta(seconds=RETRY_REFUSED_AFTER * 4 ** (refusals - 1))
        with writing(self._url, connection):
            mark_refused(
                connection,
                message.delivery_id,
                reason,
                None if final else self._clock.now() + pause,
            )
        if final:
            self.state.given_up += message.total
            _LOG.error(
                "message %s for %s, of %d alerts, is given up after %d refusals: %s; "
                "`%s alerts resend --failed` tries it again",
                message.delivery_id,
                self.channel.describe(),
                message.total,
                refusals,
                reason,
                own_call(),
            )

    def _has_pending(self, only: Collection[str] | None) -> bool:
        with transaction(self._url) as connection:
            return has_pending(connection, self.channel.name, self._clock.now(), only)

    def _log_elsewhere(self, elsewhere: bool) -> None:
        if elsewhere and not self.state.elsewhere:
            _LOG.info("alerts for %s are sent by another process", self.channel.describe())
        self.state.elsewhere = elsewhere

    def _database_failed(self, error: FraudError) -> None:
        self._claim.release()
        self._database.failed(self._clock.elapsed())
        self._database_error = error
        self._log_waits()


def _one_line(text: str) -> str:
    """Return a receiver's text as one line that is safe on a terminal."""
    return printable(" ".join(text.split()), _LONGEST_ERROR)
