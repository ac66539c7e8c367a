"""The contents of messages and their times, by a clock that tests set."""

import logging

import pytest
from sqlalchemy import func, select

from beam_fraud.alerts import fixing
from beam_fraud.alerts.channels.channel import MessageRefusedError, TryLaterError
from beam_fraud.alerts.fixing import new_delivery
from beam_fraud.alerts.outbox import Counts, Outbox
from beam_fraud.alerts.policy import Policy, Rate
from beam_fraud.alerts.queue import queue_flagged
from beam_fraud.alerts.sender import REFUSALS, ChannelSender
from beam_fraud.alerts.snoozes import lift
from beam_fraud.errors import Code, FraudError
from beam_fraud.storage.database.connection import transaction, writing
from beam_fraud.storage.database.tables import ALERTS, DELIVERIES
from tests.flagged import flagged_batch
from tests.postman import HandClock, Postman
from tests.snoozing import snoozed_for_an_hour


class Office:
    """An outbox, a channel and a sender, which a test can replace."""

    def __init__(self, url):
        self.outbox = Outbox(url)
        self.outbox.begin()
        self.postman, self.time = Postman(), HandClock()
        self.sender = self.new_sender()
        self.queued = 0

    def new_sender(self):
        return ChannelSender(self.outbox.url, self.postman, self.time.clock)

    def queue(self, ids, **values):
        """Queue flagged transactions, each later than the last."""
        minutes = range(self.queued, self.queued + len(ids))
        self.queued += len(ids)
        batch = flagged_batch(list(ids), minutes=minutes, **values)
        queue_flagged(self.outbox.url, batch, [self.postman.name])

    def attempt(self, *, after=0.0):
        """Send after some time; return the transactions of each message."""
        self.time.pass_(after)
        done = len(self.postman.delivered)
        self.sender.attempt()
        return self.postman.ids()[done:]

    def counts(self):
        return self.outbox.counts(self.time.moment).get("postman", Counts())


@pytest.fixture
def office(database):
    office = Office(database)
    yield office
    office.sender.close()


def test_without_a_policy_alerts_are_sent_at_once(office):
    office.queue("abc")
    assert office.attempt() == ["abc"]
    office.queue("d")
    assert office.attempt() == ["d"]
    assert office.attempt() == []
    assert office.counts() == Counts(0, 4)


def test_the_first_alert_of_an_account_goes_at_once_and_those_that_follow_go_together(office):
    office.postman.policy = Policy(group=60)
    office.queue("a", account="x")
    assert office.attempt() == ["a"]
    for new in "bc":
        office.queue(new, account="x")
        assert office.attempt(after=20) == []
    office.queue("z", account="y")
    assert office.attempt() == ["z"]
    assert office.attempt(after=20.1) == ["bc"]
    # The message of just now has opened the next span.
    office.queue("d", account="x")
    assert office.attempt(after=59) == []
    assert office.attempt(after=1.1) == ["d"]


def test_a_span_outlives_the_process(office):
    office.postman.policy = Policy(group=60)
    office.queue("a", account="x")
    assert office.attempt() == ["a"]
    office.sender.close()
    office.sender = office.new_sender()
    office.queue("b", account="x")
    assert office.attempt(after=30) == []
    assert office.attempt(after=31) == ["b"]


def test_alerts_without_an_account_are_sent_at_once(office):
    office.postman.policy = Policy(group=60, most=2)
    office.queue("abc", account=None)
    assert office.attempt() == ["ab", "c"]
    office.queue("d", account=None)
    assert office.attempt() == ["d"]


def test_a_backlog_of_many_pages_goes_out_grouped(office, monkeypatch):
    monkeypatch.setattr(fixing, "PAGE", 4)
    monkeypatch.setattr(fixing, "_ACCOUNTS", 2)
    office.postman.policy = Policy(group=60, most=3)
    for _ in range(5):
        for account in "pqr":
            office.queue([f"{account}{office.queued}"], account=account)
    office.attempt()
    assert sorted(len(m.alerts) for m in office.postman.delivered) == [2, 2, 2, 3, 3, 3]
    assert all(len({a.account_id for a in m.alerts}) == 1 for m in office.postman.delivered)
    assert office.counts() == Counts(0, 15)


def test_the_limit_on_messages_holds_and_the_other_alerts_are_a_digest(office):
    office.postman.policy = Policy(group=60, rate=Rate(3, 600))
    for name in "abc":
        office.queue(name, account=name)
        assert office.attempt(after=100) == [name]
    office.queue("de", account="d")
    office.queue("fg", account="f")
    assert office.attempt() == []
    assert office.counts().pending == 4
    assert office.attempt(after=399) == []
    # The first of the three is out of the span: one message may go, and it tells of all.
    assert office.attempt(after=1.1) == ["defg"]
    [digest] = office.postman.delivered[3:]
    assert (digest.kind, digest.total) == ("digest", 4)
    assert digest.text == "4 alerts: 4 review."
    assert office.counts() == Counts(0, 7)


def test_a_burst_ends_in_a_digest_at_once(office, monkeypatch):
    monkeypatch.setattr(fixing, "PAGE", 5)
    office.postman.policy = Policy(group=60, rate=Rate(3, 600))
    for number in range(40):
        office.queue([f"{number:02}"], account=f"x{number}")
    assert office.attempt()[:2] == ["00", "01"]
    assert [message.total for message in office.postman.delivered] == [1, 1, 38]
    assert [len(message.alerts) for message in office.postman.delivered] == [1, 1, 20]


def test_an_outage_does_not_add_up_to_a_flood(office):
    office.postman.policy = Policy(group=60, rate=Rate(2, 600))
    office.postman.trouble = lambda message: FraudError("down", Code.CHANNEL_FAILED)
    office.queue("a", account="a")
    assert office.attempt() == []
    office.queue("b", account="b")
    office.queue("c", account="c")
    office.postman.trouble = lambda message: None
    # Made long ago, but sent now: it counts as one of now.
    assert office.attempt(after=5000) == ["a", "bc"]
    assert office.postman.delivered[1].kind == "digest"


def test_notices_are_sent_beyond_the_limit(office):
    office.postman.policy = Policy(rate=Rate(1, 600))
    office.queue("a")
    assert office.attempt() == ["a"]
    notice = new_delivery("postman", "notice", None, office.time.moment)
    with writing(office.outbox.url) as connection:
        connection.execute(DELIVERIES.insert().values(**notice, text="a rule was muted"))
    assert office.attempt() == [""]
    assert (office.postman.delivered[1].kind, office.postman.delivered[1].text) == (
        "notice",
        "a rule was muted",
    )


def test_snoozed_alerts_wait_and_are_sent_together(office):
    office.postman.policy = Policy(group=60)
    snoozed_for_an_hour(office.outbox, "x", office.time.moment)
    for name in "abc":
        office.queue(name, account="x")
        assert office.attempt(after=600) == []
    office.queue("z", account="y")
    assert office.attempt() == ["z"]
    assert office.counts() == Counts(0, 1, 0, 3)
    assert office.attempt(after=1801) == ["abc"]


def test_a_snooze_can_be_lifted(office):
    start = office.time.moment
    snoozed_for_an_hour(office.outbox, "a", start)
    office.queue("a")
    assert office.attempt() == []
    with writing(office.outbox.url) as connection:
        assert lift(connection, "account", "a", start)
        assert not lift(connection, "account", "a", start)
    assert office.attempt() == ["a"]


def test_a_message_is_the_same_at_every_attempt_also_after_rescoring(office):
    office.postman.trouble = lambda message: FraudError("down", Code.CHANNEL_FAILED)
    office.queue("ab", score=0.7)
    for _ in range(4):
        office.attempt(after=100)
        office.queued = 0
        office.queue("ab", score=0.9)
        office.sender.close()
        office.sender = office.new_sender()
    office.postman.trouble = lambda message: None
    office.attempt(after=100)
    assert len(office.postman.tried) == 5
    assert all(message == office.postman.tried[0] for message in office.postman.tried)
    assert [alert.score for alert in office.postman.delivered[0].alerts] == [0.7, 0.7]


def test_a_failing_channel_is_retried_after_growing_pauses(office, caplog):
    office.postman.trouble = lambda message: FraudError(
        "the dog\nbit \x1b him", Code.CHANNEL_FAILED
    )
    office.queue("a")
    with caplog.at_level(logging.INFO):
        for _ in range(600):
            office.attempt(after=1)
        # 0.5 s, 1 s, 2 s ... 60 s
        assert 13 <= len(office.postman.tried) <= 28
        assert office.sender.state.open
        office.postman.trouble = lambda message: None
        office.attempt(after=60)
    first, *others, last = [record.getMessage() for record in caplog.records]
    why = "alerts for postman: wait in the outbox; retrying: the dog bit \\x1b him"
    assert first == why
    assert 15 <= len(others) <= 20, "a line every 30 seconds"
    assert all(line.startswith(f"{why}; waiting for ") for line in others)
    assert last.startswith("alerts for postman: are sent again, after ")
    assert (office.sender.state.open, office.sender.state.error) == (False, None)


def test_a_receiver_sets_the_time_of_the_retry(office):
    office.postman.trouble = lambda message: TryLaterError("busy", Code.CHANNEL_FAILED, 30)
    office.queue("a")
    office.attempt()
    office.postman.trouble = lambda message: None
    assert office.attempt(after=29) == []
    assert office.attempt(after=1.1) == ["a"]


@pytest.mark.parametrize(
    "error", [MessageRefusedError("spam", Code.MESSAGE_REFUSED), RuntimeError("spam")]
)
def test_a_refused_message_does_not_delay_the_others_and_is_given_up(office, caplog, error):
    office.postman.policy = Policy(most=1)
    bad = {"b"}
    office.postman.trouble = lambda m: error if m.alerts[0].transaction_id in bad else None
    office.queue("abc")
    assert office.attempt() == ["a", "c"]
    for _ in range(200):
        office.attempt(after=60)
    assert len(office.postman.tried) == 2 + REFUSALS
    assert office.counts() == Counts(0, 2, failed=1)
    [message] = [record.getMessage() for record in caplog.records]
    assert "given up after 5 refusals" in message
    assert "spam" in message


def test_a_message_accepted_during_a_database_outage_is_not_sent_again(office):
    office.queue("a")

    def lose_the_table(message):
        with writing(office.outbox.url) as connection:
            connection.exec_driver_sql("ALTER TABLE deliveries RENAME TO gone")

    office.postman.trouble = lose_the_table
    assert office.attempt() == ["a"]
    assert office.attempt(after=60) == []
    with writing(office.outbox.url) as connection:
        connection.exec_driver_sql("ALTER TABLE gone RENAME TO deliveries")
    assert office.attempt(after=120) == []
    assert office.counts() == Counts(0, 1)


def test_erased_alerts_are_not_sent(office):
    office.postman.trouble = lambda message: FraudError("down", Code.CHANNEL_FAILED)
    office.queue("a")
    office.attempt()
    with writing(office.outbox.url) as connection:
        connection.execute(ALERTS.delete())
    office.postman.trouble = lambda message: None
    assert office.attempt(after=60) == []
    with transaction(office.outbox.url) as connection:
        assert connection.scalar(select(func.count()).select_from(DELIVERIES)) == 0


def test_a_flush_ignores_spans_and_limits(office):
    office.postman.policy = Policy(group=600, rate=Rate(1, 600))
    office.queue("a", account="x")
    assert office.attempt() == ["a"]
    office.queue("bc", account="x")
    office.queue("d", account="y")
    office.sender.flush(patience=0)
    assert office.postman.ids() == ["a", "bcd"]
    assert office.postman.delivered[1].kind == "digest"
    assert office.sender.state.digested == 3
    assert office.postman.closed == 1


def test_a_flush_tries_a_pausing_channel_once(office):
    office.postman.trouble = lambda message: FraudError("down", Code.CHANNEL_FAILED)
    office.queue("ab")
    office.attempt()
    office.sender.flush(patience=0)
    assert len(office.postman.tried) == 2
    office.postman.trouble = lambda message: None
    office.sender.flush(patience=0)
    assert office.postman.ids() == ["ab"]


def test_a_second_sender_leaves_the_channel_to_the_first(office, caplog):
    office.queue("a")
    office.attempt()
    second = office.new_sender()
    office.queue("b")
    with caplog.at_level(logging.INFO):
        assert not second.attempt()
    assert second.state.elsewhere
    assert [r.getMessage() for r in caplog.records] == [
        "alerts for postman: are sent by another process"
    ]
    assert office.attempt() == ["b"]
    office.sender.close()
    office.queue("c")
    office.time.pass_(1)
    assert second.attempt()
    assert office.postman.ids() == ["a", "b", "c"]
    second.close()
