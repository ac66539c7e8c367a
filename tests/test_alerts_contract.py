"""What every channel does: one suite, run for each kind."""

import io
import json

import pytest

from beam_fraud.alert import alerts_of
from beam_fraud.alerts.url import parse_channel
from beam_fraud.errors import FraudError
from tests.flagged import flagged_batch


class Recipient:
    """A channel, and what has come out of it: the transaction ids in their order."""

    def __init__(self, kind, path):
        self.kind, self.path, self.stream = kind, path / "new" / "alerts.jsonl", io.StringIO()
        url = "console:" if kind == "console" else f"file:{self.path}"
        self.url = url
        self.channel = parse_channel(url, self.stream)

    def lines(self):
        text = self.stream.getvalue() if self.kind == "console" else self.path.read_text()
        assert text.endswith("\n")
        return text.removesuffix("\n").split("\n")

    def ids(self):
        if self.kind == "console":
            words = [word for line in self.lines() for word in line.split()]
            return [w.split("=")[1] for w in words if w.startswith("transaction=")]
        return [json.loads(line)["transaction_id"] for line in self.lines()]

    def break_it(self):
        if self.kind == "console":
            self.stream.close()
        else:
            self.path.mkdir(parents=True)


@pytest.fixture(params=["console", "file"])
def recipient(request, tmp_path):
    return Recipient(request.param, tmp_path)


def _alerts(recipient, *ids, **values):
    return alerts_of(flagged_batch(ids, **values), [recipient.channel.name])


def test_alerts_arrive_once_each_in_order(recipient):
    recipient.channel.check()
    recipient.channel.send(_alerts(recipient, "b", "a"))
    recipient.channel.send(_alerts(recipient, "c"))
    assert recipient.ids() == ["b", "a", "c"]


def test_hostile_names_stay_within_their_line(recipient):
    name = "x\nALERT decline\r\x1b[2J\x9b31m\u202e\u2028\x00'\""
    recipient.channel.send(_alerts(recipient, "a", account=name))
    [line] = recipient.lines()
    assert not any(ord(char) < 32 or char == "\x9b" for char in line if recipient.kind == "console")
    assert "\x1b" not in line


def test_a_failure_is_one_line_that_names_the_channel(recipient):
    recipient.break_it()
    with pytest.raises(FraudError, match=f"--alert {recipient.kind}:") as refused:
        recipient.channel.send(_alerts(recipient, "a"))
    assert "\n" not in str(refused.value)


def test_check_sends_nothing(recipient):
    recipient.channel.check()
    assert recipient.stream.getvalue() == ""
    assert not recipient.path.exists()


def test_the_name_is_the_same_in_every_run(recipient):
    assert parse_channel(recipient.url, io.StringIO()).name == recipient.channel.name


def test_it_describes_itself_by_its_kind(recipient):
    assert recipient.channel.describe().startswith(f"{recipient.kind}:")
