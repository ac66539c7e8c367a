"""Random histories of an outbox: no alert is lost, repeated, changed or sent above the limit."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select

from beam_fraud.alerts.channels.channel import MessageRefusedError, TryLaterError
from beam_fraud.alerts.message import Message
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.alerts.policy import Policy, Rate
from beam_fraud.alerts.queue import queue_flagged
from beam_fraud.alerts.sender import REFUSALS, ChannelSender
from beam_fraud.alerts.snoozes import Snooze, lift, snooze
from beam_fraud.errors import Code, FraudError
from beam_fraud.storage.database.connection import sqlite_url, transaction, writing
from beam_fraud.storage.database.tables import ALERTS
from tests.flagged import flagged_batch
from tests.postman import HandClock, Postman

ACCOUNTS = ["x", "y", None]
POLICIES = [
    Policy(most=3),
    Policy(group=60, most=2),
    Policy(group=60, most=3, rate=Rate(2, 300)),
    Policy(rate=Rate(1, 120), most=2),
]


class KilledError(BaseException):
    """The end of the process: no code may handle it."""


class Histories(RuleBasedStateMachine):
    """Queue, send, fail, refuse, snooze and die, in any order."""

    @initialize(policy=st.sampled_from(POLICIES))
    def begin(self, policy: Policy) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.outbox = Outbox(sqlite_url(Path(self.directory.name) / "outbox.db"))
        self.outbox.begin()
        self.postman, self.time = Postman(policy=policy), HandClock()
        self.sender = ChannelSender(self.outbox.url, self.postman, self.time.clock)
        self.queued: dict[str, str | None] = {}
        #: Id of a message to what it said at its first attempt, and when it was taken last.
        self.said: dict[str, Message] = {}
        self.taken: dict[str, datetime] = {}
        #: Whose alerts were not to be told, from when to when.
        self.quiet: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
        #: What must not have happened: a channel's own errors are nothing to its sender.
        self.wrong: list[str] = []

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            self.settle()
            self.sender.close()
            self.directory.cleanup()

    @rule(
        number=st.integers(1, 4), account=st.sampled_from(ACCOUNTS), score=st.floats(0, 1, width=16)
    )
    def queue(self, number: int, account: str | None, score: float) -> None:
        new = [f"t{len(self.queued) + more}" for more in range(number)]
        self.queued |= dict.fromkeys(new, account)
        batch = flagged_batch(new, account=account, score=score)
        queue_flagged(self.outbox.url, batch, ["postman"])

    @precondition(lambda self: self.queued)
    @rule(data=st.data(), score=st.floats(0, 1, width=16))
    def score_again(self, data: st.DataObject, score: float) -> None:
        name = data.draw(st.sampled_from(sorted(self.queued)))
        batch = flagged_batch([name], account=self.queued[name], score=score, model_id="n@2")
        queue_flagged(self.outbox.url, batch, ["postman"])

    @rule(seconds=st.sampled_from([0.5, 30, 61, 130, 301]))
    def let_time_pass(self, seconds: float) -> None:
        self.time.pass_(seconds)

    @rule(account=st.sampled_from("xy"), seconds=st.sampled_from([20, 200]))
    def snooze(self, account: str, seconds: float) -> None:
        # Messages that were made before it go out: a moment tells them from those made after.
        self.time.pass_(0.01)
        now = self.time.moment
        self._end_snooze(account)
        until = now + timedelta(seconds=seconds)
        self.quiet[account].append((now, until))
        with writing(self.outbox.url) as connection:
            snooze(connection, [Snooze("account", account, until)], now)

    @rule(account=st.sampled_from("xy"))
    def lift(self, account: str) -> None:
        self._end_snooze(account)
        with writing(self.outbox.url) as connection:
            lift(connection, "account", account, self.time.moment)

    @rule(
        fates=st.lists(
            st.sampled_from(["takes", "fails", "refuses", "later", "dies", "takes and dies"]),
            max_size=4,
        )
    )
    def send(self, fates: list[str]) -> None:
        left = iter(fates)
        self._attempt(lambda: next(left, "takes"))

    @precondition(lambda self: self.postman.policy.rate is None)
    @rule()
    def flush(self) -> None:
        """End a run, which may add one message above the limit."""
        self.postman.trouble = self._trouble(lambda: "takes")
        self.sender.flush(patience=0)

    @rule()
    def restart(self) -> None:
        self._die()

    @invariant()
    def nothing_is_wrong(self) -> None:
        assert getattr(self, "wrong", []) == []

    @invariant()
    def no_alert_is_in_two_messages(self) -> None:
        if not hasattr(self, "said"):
            return
        message = [
            alert.transaction_id
            for key in self.taken
            if self.said[key].kind == "alerts"
            for alert in self.said[key].alerts
        ]
        assert len(message) == len(set(message))

    @invariant()
    def the_bound_holds(self) -> None:
        if not hasattr(self, "said") or self.postman.policy.rate is None:
            return
        rate, times = self.postman.policy.rate, sorted(self.taken.values())
        span = timedelta(seconds=rate.seconds)
        for number, start in enumerate(times):
            assert sum(t < start + span for t in times[number:]) <= rate.messages

    def settle(self) -> None:
        """End all faults: every alert is sent or given up."""
        for account in "xy":
            self.lift(account)
        for _ in range(REFUSALS + 2):
            self.time.pass_(100_000)
            self._attempt(lambda: "takes")
        with transaction(self.outbox.url) as connection:
            rows = connection.execute(select(ALERTS)).all()
        assert {row.transaction_id for row in rows} == set(self.queued)
        counts = self.outbox.counts(self.time.moment).get("postman")
        assert counts is None or (counts.pending, counts.snoozed) == (0, 0)
        for row in rows:
            assert (row.sent_at is not None) == (row.delivery_id in self.taken)

    def _attempt(self, fate) -> None:
        self.postman.trouble = self._trouble(fate)
        try:
            self.sender.attempt()
        except KilledError:
            self._die()

    def _trouble(self, fate):
        def trouble(message: Message) -> Exception | None:
            key = message.delivery_id
            if self.said.setdefault(key, message) != message:
                self.wrong.append("says something else than before")
            for alert in message.alerts:
                for start, end in self.quiet.get(str(alert.account_id), ()):
                    if start <= message.created_at < end:
                        self.wrong.append("tells of somebody who is snoozed")
            what = fate()
            if what == "dies":
                raise KilledError
            if "takes" in what:
                self.taken[key] = self.time.moment
            if what == "takes and dies":
                raise KilledError
            errors = {
                "fails": FraudError("down", Code.CHANNEL_FAILED),
                "refuses": MessageRefusedError("spam", Code.MESSAGE_REFUSED),
                "later": TryLaterError("busy", Code.CHANNEL_FAILED, 10),
            }
            return errors.get(what)

        return trouble

    def _end_snooze(self, account: str) -> None:
        now = self.time.moment
        self.quiet[account] = [(start, min(end, now)) for start, end in self.quiet[account]]

    def _die(self) -> None:
        # What the kernel does: locks and connections go, memory is gone.
        self.sender._claim.release()
        self.sender = ChannelSender(self.outbox.url, self.postman, self.time.clock)


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
