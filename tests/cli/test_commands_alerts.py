"""`beam-fraud alerts list|resend|snooze` on the command line."""

import json
import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from beam_fraud.alerts.alert import AlertContext, alert_id
from beam_fraud.alerts.channels.file import FileChannel
from beam_fraud.alerts.dispatch import send_pending
from beam_fraud.alerts.outbox import Counts, Outbox
from beam_fraud.alerts.queue import queue_flagged
from beam_fraud.cli import main
from beam_fraud.cli.commands.alerts import run_resend
from beam_fraud.cli.options import ResendAlertsOptions
from beam_fraud.errors import Code
from beam_fraud.storage.database.connection import sqlite_url, transaction, writing
from beam_fraud.storage.database.tables import DELIVERIES
from tests.failing import fails
from tests.flagged import flagged_batch

HOSTILE = "x\x1b[2J\nsent"


class Desk:
    """An outbox, a channel that writes a file, and the command line."""

    def __init__(self, path: Path, capsys):
        self.path, self.capsys = path, capsys
        self.outbox = Outbox(sqlite_url(path / "outbox.db"))
        self.outbox.begin()
        self.file = path / "alerts.jsonl"
        self.channel = FileChannel(self.file)

    def queue(self, ids, **values):
        queue_flagged(self.outbox.url, flagged_batch(list(ids), **values), [self.channel.name])

    def send(self):
        send_pending(self.outbox, [self.channel], 0.0)

    def call(self, *args, code=0):
        """Call `beam-fraud alerts`; return its output or its error."""
        assert main(["alerts", *args]) == code
        message = self.capsys.readouterr()
        return message.out if code == 0 else message.err

    def list(self, *args):
        return json.loads(self.call("list", "--out", str(self.path), "--json", *args))

    def resend(self, *args, **options):
        alert = ("--alert", f"file:{self.file}")
        return self.call("resend", "--out", str(self.path), *alert, *args, **options)

    def snooze(self, *args, **options):
        return self.call("snooze", "--out", str(self.path), *args, **options)

    def told(self):
        return [json.loads(line)["transaction_id"] for line in self.file.read_text().splitlines()]

    def key(self, transaction):
        return alert_id(transaction, self.channel.name)

    def counts(self):
        return self.outbox.counts()[self.channel.name]


@pytest.fixture
def desk(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    return Desk(tmp_path, capsys)


def ids(found):
    return [one["transaction_id"] for one in found["alerts"]]


def test_list_shows_the_newest_first_with_their_states(desk, monkeypatch):
    monkeypatch.chdir(desk.path)
    desk.queue("ab")
    desk.send()
    desk.queue("cd", account="other", minutes=[10, 11])
    result = desk.list()
    assert ids(result) == ["d", "c", "b", "a"]
    assert [one["state"] for one in result["alerts"]] == ["waiting", "waiting", "sent", "sent"]
    assert result["channels"] == {
        desk.channel.name: {
            "waiting": 2,
            "sent": 2,
            "failed": 0,
            "snoozed": 0,
            "last_error": None,
        }
    }
    assert ids(desk.list("--state", "sent", "--limit", "1")) == ["b"]
    assert ids(desk.list("--account", "other")) == ["d", "c"]
    for options in (desk.channel.name, "file:alerts.jsonl", "file"):
        assert ids(desk.list("--channel", options)) == ["d", "c", "b", "a"]
    assert ids(desk.list("--merchant", "nobody")) == []


def test_a_channel_without_alerts_is_reported_without_its_secret(desk):
    desk.queue("a")
    secret = "slack://hooks.slack.com/services/T0/B0/hunter2"
    for options in ("console", "console:", secret):
        message = desk.call("list", "--out", str(desk.path), "--channel", options, code=1)
        assert "no alerts for this channel" in message
        assert desk.channel.name in message
        assert "hunter2" not in message


def test_list_is_a_table_that_is_safe_on_a_terminal(desk):
    desk.queue("a", account=HOSTILE)
    desk.snooze("--account", HOSTILE, "--for", "1h")
    lines = desk.call("list", "--sink", f"sqlite:///{desk.path}/outbox.db").splitlines()
    assert "\x1b" not in "".join(lines)
    assert lines[0].split() == [
        *("state", "time", "decision", "score", "amount", "account", "transaction", "channel")
    ]
    account = r"x\x1b[2J\nsent"
    assert lines[1].split("  ")[:2] == ["snoozed", "2024-05-01 12:00 +00:00"]
    assert account in lines[1]
    assert lines[1].endswith("  file")
    assert lines[2:4] == ["", f"channel {desk.channel.name}: 0 waiting, 0 sent, 1 snoozed"]
    assert lines[4].startswith(f"snoozed account {account} until 20")


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("size", [1, 36, 300])
def test_the_table_fits_the_terminal(desk, monkeypatch, columns, size):
    monkeypatch.setenv("COLUMNS", str(columns))
    desk.queue([f"{number:0{size}}" for number in range(3)], account="k" * size)
    for name in ("slack://h/***012345678901", "slack://other.example/***fedcba987654"):
        queue_flagged(desk.outbox.url, flagged_batch(["z" * size], account="k"), [name])
    lines = desk.call("list", "--out", str(desk.path)).splitlines()
    table = lines[: lines.index("")]
    assert len(table) == 6
    assert max(map(len, table)) <= columns
    starts = [line.index(word) for line, word in ((table[0], "decision"), (table[1], "review"))]
    assert starts[0] == starts[1]
    # Two channels of one scheme can be told apart.
    assert len({line.split()[-1] for line in table[1:]}) == 3


def test_an_empty_outbox_is_reported(desk):
    assert desk.call("list", "--out", str(desk.path)) == "There are no alerts.\n"


def test_snoozed_alerts_wait_until_it_is_lifted(desk):
    assert desk.snooze("--account", "a", "--for", "8h").startswith("alerts of account a wait")
    desk.queue("xy")
    assert desk.resend() == "alerts sent: 0; 2 are snoozed\n"
    assert [one["state"] for one in desk.list()["alerts"]] == ["snoozed", "snoozed"]
    assert desk.snooze("--account", "a", "--lift") == "account a: no longer snoozed\n"
    message = desk.snooze("--account", "a", "--lift", code=1)
    assert "--account a: is not snoozed in sqlite" in message
    assert desk.resend() == "alerts sent: 2\n"
    assert desk.told() == ["x", "y"]


def test_people_read_the_end_of_a_snooze_in_the_zone_of_the_alerts(desk):
    context = AlertContext(timezone="Asia/Kolkata")
    queue_flagged(desk.outbox.url, flagged_batch(["x"]), [desk.channel.name], context)
    snoozed = json.loads(desk.snooze("--account", "a", "--for", "8h", "--json"))
    until = datetime.fromisoformat(snoozed["until"])
    assert (until.utcoffset(), snoozed["timezone"]) == (timedelta(0), "Asia/Kolkata")
    [one] = desk.list()["snoozes"]
    assert datetime.fromisoformat(one["until"]).utcoffset() == timedelta(0)
    local = r"\d{4}-\d\d-\d\d \d\d:\d\d \+05:30\n"
    message = desk.snooze("--account", "a", "--for", "8h")
    assert re.fullmatch(f"alerts of account a wait until {local}", message)
    listed = desk.call("list", "--out", str(desk.path))
    assert re.search(f"\nsnoozed account a until {local}$", listed)


def test_a_snooze_of_an_id_without_alerts_warns(desk):
    desk.queue("xy")
    for account, known in (("a", True), ("A", False)):
        options = ("--out", str(desk.path), "--account", account, "--for", "8h", "--json")
        assert main(["alerts", "snooze", *options]) == 0
        message = desk.capsys.readouterr()
        assert json.loads(message.out)["known"] == known
        assert ("has no alerts of it" in message.err) == (not known)


def test_a_list_without_matching_alerts_is_reported(desk):
    desk.queue("xy")
    listed = desk.call("list", "--out", str(desk.path), "--account", "nobody")
    assert listed.startswith("No such alerts.\n")


def test_a_merchant_can_be_snoozed_as_well(desk):
    desk.snooze("--merchant", "m", "--for", "1d")
    [one] = desk.list()["snoozes"]
    assert (one["kind"], one["value"]) == ("merchant", "m")


def test_a_sent_alert_is_sent_again_by_its_id(desk):
    desk.queue("ab")
    desk.send()
    desk.queue("c", minutes=[5])
    assert desk.resend("--id", desk.key("a")) == "alerts sent again: 1\n"
    assert desk.told() == ["a", "b", "a"]
    # Others stay as they are.
    assert desk.counts() == Counts(pending=1, sent=2)
    again, first = (one["delivery_id"] for one in desk.list("--state", "sent")["alerts"][::-1])
    assert again != first


def test_a_waiting_alert_is_sent_by_its_id(desk):
    desk.queue("ab")
    desk.resend("--id", desk.key("b"))
    assert desk.told() == ["b"]


def test_failed_alerts_are_sent_on_request(desk):
    desk.queue("a")
    desk.file.mkdir()
    desk.send()
    with writing(desk.outbox.url) as connection:
        connection.execute(DELIVERIES.update().values(state="failed", attempts=5))
    desk.queue("b", minutes=[5])
    desk.file.rmdir()
    assert desk.counts() == Counts(pending=1, failed=1)
    assert desk.list("--state", "failed")["alerts"][0]["last_error"].endswith("(Is a directory)")
    assert desk.resend("--waiting") == "alerts sent: 1\n"
    assert desk.told() == ["b"]
    assert desk.resend("--failed") == "alerts sent: 1\n"
    assert desk.told() == ["b", "a"]
    with transaction(desk.outbox.url) as connection:
        assert {row.state for row in connection.execute(DELIVERIES.select())} == {"sent"}


def test_a_channel_that_still_fails_is_an_error(desk, monkeypatch):
    desk.queue("ab")
    # Something takes the file's place after it was checked.
    monkeypatch.setattr(FileChannel, "check", lambda self: desk.file.mkdir())
    options = ResendAlertsOptions(alerts=(f"file:{desk.file}",), out=str(desk.path), patience=0.0)
    with fails(Code.ALERTS_UNSENT, r"^2 alerts .*Is a directory"):
        run_resend(options)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("list",), "give --sink URL"),
        (("list", "--out", "a", "--sink", "sqlite:///b"), "not both"),
        (("list", "--sink", "parquet:x"), "holds no alerts"),
        (("snooze", "--out", "OUT", "--for", "8h"), "give one of --account ID, --merchant ID"),
        (("snooze", "--out", "OUT", "--account", "a"), "give --for TIME"),
        (("snooze", "--out", "OUT", "--account", "a", "--for", "8"), "--for: '8' is not a"),
        (("snooze", "--out", "OUT", "--account", "a", "--for", "0s"), "is no time"),
        (("resend", "--out", "OUT", "--alert", "console:"), "has no alerts for this channel"),
        (("resend", "--out", "OUT", "--alert", "file:alerts.jsonl", "--id", "x"), "no such alert"),
    ],
)
def test_a_wrong_call_is_one_line(desk, monkeypatch, args, message):
    monkeypatch.chdir(desk.path)
    desk.queue("a")
    error = desk.call(*(str(desk.path) if a == "OUT" else a for a in args), code=2)
    assert message in error
    assert error.count("\n") == 1


def test_a_missing_outbox_is_not_created(desk):
    error = desk.call("list", "--out", str(desk.path / "none"), code=1)
    assert "there is no such database" in error
    assert not (desk.path / "none").exists()
