import io
import logging
from dataclasses import dataclass, field

import pytest

from beam_fraud.alert import Alert, alerts_of
from beam_fraud.alerts import dispatch
from beam_fraud.alerts.console import ConsoleChannel
from beam_fraud.alerts.dispatch import ChannelReport, send_pending
from beam_fraud.alerts.file import FileChannel
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.errors import FraudError
from beam_fraud.sinks.connection import sqlite_url
from tests.flagged import flagged_batch


@dataclass
class Postman:
    """A channel that delivers so many alerts and then is ill."""

    name: str = "postman"
    strength: int = 10**9
    delivered: list[Alert] = field(default_factory=list)

    def check(self):
        pass

    def describe(self):
        return "postman:"

    def send(self, alerts):
        if len(self.delivered) + len(alerts) > self.strength:
            raise FraudError("the dog\nbit him")
        self.delivered += alerts


@pytest.fixture
def outbox(tmp_path):
    outbox = Outbox(sqlite_url(tmp_path / "outbox.db"))
    outbox.begin()
    return outbox


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch):
    monkeypatch.setattr(dispatch, "PAGE", 2)


def _queue(outbox, ids, *channels):
    outbox.queue(alerts_of(flagged_batch(list(ids)), [channel.name for channel in channels]))


def _ids(postman):
    return "".join(alert.transaction_id for alert in postman.delivered)


def test_everything_goes_out_once_in_event_order(outbox):
    postman = Postman()
    _queue(outbox, "abcde", postman)
    assert send_pending(outbox, [postman]).channels == {"postman": ChannelReport(5, 0, 0)}
    assert send_pending(outbox, [postman]).channels == {"postman": ChannelReport(0, 5, 0)}
    assert _ids(postman) == "abcde"


def test_a_channel_that_fails_keeps_its_alerts_and_does_not_stop_the_others(outbox, caplog):
    ill, well = Postman("ill", strength=3), Postman("well")
    _queue(outbox, "abcde", ill, well)
    with caplog.at_level(logging.ERROR):
        report = send_pending(outbox, [ill, well])
    assert report.channels["ill"] == ChannelReport(2, 0, 3, "the dog bit him")
    assert report.channels["well"] == ChannelReport(5, 0, 0)
    assert (report.sent, report.already_sent, report.failed) == (7, 0, 3)
    [message] = [record.getMessage() for record in caplog.records]
    assert message == "3 alerts for postman: still to be sent: the dog bit him"

    ill.strength = 99
    assert send_pending(outbox, [ill]).channels["ill"] == ChannelReport(3, 2, 0)
    assert _ids(ill) == "abcde"


def test_alerts_of_a_channel_that_is_not_given_wait(outbox):
    given, absent = Postman("given"), Postman("absent")
    _queue(outbox, "ab", given, absent)
    send_pending(outbox, [given])
    assert outbox.counts()["absent"].pending == 2


def test_a_channel_given_twice_is_one(outbox):
    one, same = Postman(), Postman()
    _queue(outbox, "a", one)
    assert send_pending(outbox, [one, same]).sent == 1


def test_the_real_channels(outbox, tmp_path):
    stream, file = io.StringIO(), FileChannel(tmp_path / "alerts.jsonl")
    console = ConsoleChannel(stream)
    _queue(outbox, "abc", console, file)
    assert send_pending(outbox, [console, file]).sent == 6
    assert stream.getvalue().count("\n") == file.path.read_text().count("\n") == 3


def test_an_empty_outbox_is_nothing_to_report(outbox):
    assert send_pending(outbox, [Postman()]).channels["postman"] == ChannelReport(0, 0, 0)
