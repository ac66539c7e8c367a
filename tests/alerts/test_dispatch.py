import io
import logging
import threading

import pytest

from beam_fraud.alerts.alert import AlertContext, RuleTerms
from beam_fraud.alerts.channels.console import ConsoleChannel
from beam_fraud.alerts.channels.file import FileChannel
from beam_fraud.alerts.dispatch import ChannelReport, send_pending
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.alerts.policy import BATCH_IN_ONE, Clock, Policy, Rate
from beam_fraud.alerts.queue import queue_flagged
from beam_fraud.alerts.sender import ChannelSender
from beam_fraud.errors import Code, FraudError
from beam_fraud.storage.database.connection import sqlite_url
from tests.flagged import flagged_batch
from tests.postman import Postman
from tests.snoozing import snoozed_for_an_hour

PAIRS = Policy(most=2)


@pytest.fixture
def outbox(tmp_path):
    outbox = Outbox(sqlite_url(tmp_path / "outbox.db"))
    outbox.begin()
    return outbox


def _queue(outbox, ids, *channels):
    queue_flagged(outbox.url, flagged_batch(list(ids)), [channel.name for channel in channels])


def _send(outbox, *channels, patience=0.0):
    return send_pending(outbox, channels, patience)


def after(messages, error):
    """Return a fault that begins after some messages."""
    seen = []

    def trouble(message):
        seen.append(message)
        return error if len(seen) > messages else None

    return trouble


def test_every_alert_is_sent_once_in_event_order(outbox):
    postman = Postman(policy=PAIRS)
    _queue(outbox, "abcde", postman)
    assert _send(outbox, postman).channels == {"postman": ChannelReport(5, 0, 0)}
    assert _send(outbox, postman).channels == {"postman": ChannelReport(0, 5, 0)}
    assert postman.ids() == ["ab", "cd", "e"]


def test_a_failing_channel_keeps_its_alerts_and_does_not_stop_the_others(outbox, caplog):
    ill, well = Postman("ill", PAIRS), Postman("well", PAIRS)
    ill.trouble = after(1, FraudError("the dog\nbit him", Code.CHANNEL_FAILED))
    _queue(outbox, "abcde", ill, well)
    with caplog.at_level(logging.ERROR):
        report = _send(outbox, ill, well)
    assert report.channels["ill"] == ChannelReport(2, 0, 3, "the dog bit him")
    assert report.channels["well"] == ChannelReport(5, 0, 0)
    assert (report.sent, report.already_sent, report.failed) == (7, 0, 3)
    [message] = [record.getMessage() for record in caplog.records]
    assert message == "3 alerts for ill: were not sent: the dog bit him"

    ill.trouble = lambda message: None
    assert _send(outbox, ill).channels["ill"] == ChannelReport(3, 2, 0)
    assert ill.ids() == ["ab", "cd", "e"]


def test_a_channel_that_accepts_some_messages_is_retried(outbox):
    """Patience restarts with each accepted message."""
    postman, tried = Postman(policy=Policy(most=1)), []

    def trouble(message):
        tried.append(message)
        return FraudError("it answered 500", Code.CHANNEL_FAILED) if len(tried) % 3 == 1 else None

    postman.trouble = trouble
    _queue(outbox, [f"{number:03}" for number in range(60)], postman)
    # Two dozen failures make pauses that are together far longer than this.
    report = _send(outbox, postman, patience=0.4)
    assert (report.sent, report.failed) == (60, 0)


def test_a_stalled_channel_does_not_delay_the_others(outbox):
    free = threading.Event()
    stalled, well = Postman("stalled"), Postman("well")
    stalled.trouble = lambda message: (
        None if free.wait(30) else FraudError("nobody came", Code.CHANNEL_FAILED)
    )

    def deliver(message):
        free.set()

    well.trouble = deliver
    _queue(outbox, "a", stalled, well)
    assert _send(outbox, stalled, well).sent == 2


def test_a_channel_that_recovers_in_time_is_waited_for(outbox):
    postman = Postman(policy=PAIRS)
    trouble = iter([FraudError("ill", Code.CHANNEL_FAILED)] * 2)
    postman.trouble = lambda message: next(trouble, None)
    _queue(outbox, "abc", postman)
    assert _send(outbox, postman, patience=30).channels == {"postman": ChannelReport(3, 0, 0)}
    assert len(postman.tried) == 4


def test_snoozed_and_digested_alerts_are_counted_separately(outbox):
    postman = Postman(policy=Policy(group=60, rate=Rate(1, 3600)))
    _queue(outbox, "ab", postman)
    queue_flagged(outbox.url, flagged_batch(["c"], account="other"), ["postman"])
    queue_flagged(outbox.url, flagged_batch(["d"], account="quiet"), ["postman"])
    snoozed_for_an_hour(outbox, "quiet")
    report = _send(outbox, postman)
    assert (report.sent, report.digested, report.snoozed, report.failed) == (3, 3, 1, 0)


def test_alerts_of_an_absent_channel_wait(outbox):
    value, absent = Postman("given"), Postman("absent")
    _queue(outbox, "ab", value, absent)
    _send(outbox, value)
    assert outbox.counts()["absent"].pending == 2


def test_a_repeated_channel_is_one(outbox):
    one, same = Postman(), Postman()
    _queue(outbox, "a", one)
    assert _send(outbox, one, same).sent == 1
    assert (one.ids(), same.ids()) == (["a"], [])


def test_alerts_are_left_to_another_sending_process(outbox):
    first, second = Postman(), Postman()
    sender = ChannelSender(outbox.url, first, Clock())
    sender.attempt()
    _queue(outbox, "a", first)
    report = _send(outbox, second)
    assert report.channels["postman"] == ChannelReport(0, 0, 1)
    sender.attempt()
    assert _send(outbox, second, patience=30).channels["postman"] == ChannelReport(0, 1, 0)
    assert (first.ids(), second.ids()) == (["a"], [])
    sender.close()


def test_the_real_channels(outbox, tmp_path):
    stream, file = io.StringIO(), FileChannel(tmp_path / "alerts.jsonl")
    console = ConsoleChannel(stream)
    _queue(outbox, "abc", console, file)
    assert _send(outbox, console, file).sent == 6
    assert stream.getvalue().count("\n") == file.path.read_text().count("\n") == 3


def test_an_empty_outbox_has_an_empty_report(outbox):
    assert _send(outbox, Postman()).channels["postman"] == ChannelReport(0, 0, 0)


def test_a_missing_outbox_is_one_line(tmp_path):
    with pytest.raises(FraudError, match="no such table"):
        _send(Outbox(sqlite_url(tmp_path / "x.db")), Postman(), patience=60)


IN_ONE = Policy(group=300.0, most=50, rate=Rate(60, 3600.0), digest=20)


@pytest.mark.parametrize("policy", [IN_ONE, BATCH_IN_ONE])
def test_a_batch_of_a_hundred_alerts_is_one_digest(outbox, policy):
    postman = Postman(policy=policy)
    for account in range(100):
        batch = flagged_batch([f"t{account}"], account=f"a{account}", score=account / 100)
        queue_flagged(outbox.url, batch, ["postman"])
    report = _send(outbox, postman).channels["postman"]
    assert (report.sent, report.digested) == (100, 100)
    [message] = postman.delivered
    assert (message.kind, message.total) == ("digest", 100)
    assert [alert.transaction_id for alert in message.alerts] == [
        f"t{n}" for n in range(99, 79, -1)
    ]
    assert message.text.startswith("100 alerts: 100 review. These 20 have the highest scores")


def test_a_batch_of_a_few_alerts_is_one_message_of_all(outbox):
    postman = Postman(policy=IN_ONE)
    for account in range(20):
        queue_flagged(
            outbox.url, flagged_batch([f"{account % 10}"], account=f"a{account}"), ["postman"]
        )
    _queue(outbox, "abcdefghij", postman)
    _send(outbox, postman)
    [message] = postman.delivered
    assert (message.kind, message.total) == ("alerts", 20)


def test_a_stream_is_grouped_as_before_though_a_batch_would_be_one_digest(outbox):
    postman = Postman(policy=Policy(most=2, digest=3))
    _queue(outbox, "abcdefg", postman)
    ChannelSender(outbox.url, postman, Clock()).attempt()
    assert postman.ids() == ["ab", "cd", "ef", "g"]


def test_a_digest_says_how_many_alerts_rules_raised(outbox):
    rules = (RuleTerms("large", "review", 0),)
    context = AlertContext(review=0.95, rules=rules)
    queue_flagged(outbox.url, flagged_batch(list("abcd")), ["postman"], context)
    postman = Postman(policy=Policy(digest=2))
    _send(outbox, postman)
    [message] = postman.delivered
    assert message.text.startswith("4 alerts: 4 review, 4 of them by rules. These 2 have")
