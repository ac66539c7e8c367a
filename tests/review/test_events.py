"""What people did goes out by the outbox, and labels go to a topic."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from sqlalchemy import select

from beam_fraud.alerts.channels.channel import Channel
from beam_fraud.alerts.channels.url import parse_channel
from beam_fraud.alerts.dispatch import send_pending
from beam_fraud.alerts.message import Message, message_records
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.alerts.pseudonym import Pseudonyms
from beam_fraud.records.labels import read_labels
from beam_fraud.review.decisions import Decision, decide
from beam_fraud.review.errors import ConflictError
from beam_fraud.review.list_requests import ListEntry, ask
from beam_fraud.storage.database.connection import transaction
from beam_fraud.storage.database.tables import DELIVERIES
from tests.http_receiver import HttpReceiver
from tests.records.test_labels import raw
from tests.reviewing import NOW, SETTINGS, do, opened, row

FRAUD = Decision("fraud", reason="stolen")


def sent(url: str, channel: Channel) -> int:
    send_pending(Outbox(url), [channel], patience=5.0)
    with transaction(url) as connection:
        states = connection.scalars(select(DELIVERIES.c.state))
        return sum(state == "sent" for state in states)


def test_a_webhook_gets_what_people_did(database: str) -> None:
    [case] = opened(database, row("t1"))
    with HttpReceiver() as receiver:
        channel = parse_channel(f"{receiver.url}/hook", io.StringIO())
        settings = replace(SETTINGS, channels=(channel.name,))
        do(database, decide, settings, case.case_id, case.version, "ann", FRAUD, NOW)
        with pytest.raises(ConflictError):
            do(database, decide, settings, case.case_id, 1, "bob", FRAUD, NOW)
        entry = ListEntry("merchant", "shop", "watch", "odd")
        do(database, ask, settings, "ann", entry, NOW)
        assert sent(database, channel) == 2
        # Nothing is sent twice.
        assert sent(database, channel) == 2
        posts = sorted((post.json for post in receiver.taken), key=lambda post: post["text"])
    assert [post["kind"] for post in posts] == ["event", "event"]
    decided, asked = (post["event"] for post in posts)
    assert (decided["action"], decided["who"], decided["case_id"], decided["account_id"]) == (
        "decided",
        "ann",
        case.case_id,
        "a",
    )
    assert decided["detail"]["verdict"] == "fraud"
    assert (asked["action"], asked["merchant_id"]) == ("watch_asked", "shop")


def test_pseudonyms_hide_the_ids_of_events(database: str, tmp_path: Path) -> None:
    [case] = opened(database, row("t1", "acct-7f3e"))
    file, names = tmp_path / "events.jsonl", Pseudonyms(b"sixteen bytes or")
    channel = parse_channel(f"file:{file}", io.StringIO(), pseudonyms=names)
    settings = replace(SETTINGS, channels=(channel.name,))
    do(database, decide, settings, case.case_id, case.version, "ann", FRAUD, NOW)
    assert sent(database, channel) == 1
    event = json.loads(file.read_text())["event"]
    assert event["account_id"] == names.of("account", "acct-7f3e")
    assert "acct-7f3e" not in file.read_text()


def test_people_read_events_as_a_line(database: str) -> None:
    [case] = opened(database, row("t1"))
    console = io.StringIO()
    channel = parse_channel("console:", console)
    settings = replace(SETTINGS, channels=(channel.name,))
    do(database, decide, settings, case.case_id, case.version, "ann", FRAUD, NOW)
    assert sent(database, channel) == 1
    assert console.getvalue() == f"EVENT ann decided (case {case.case_id})\n"


def test_labels_are_messages_that_streams_read(database: str) -> None:
    [case] = opened(database, row("t1"), row("t2"))
    settings = replace(SETTINGS, label_channels=("kafka://h:1/labels",))
    do(database, decide, settings, case.case_id, case.version, "ann", FRAUD, NOW)
    with transaction(database) as connection:
        rows = connection.execute(select(DELIVERIES)).all()
    records = [
        record
        for one in rows
        for record in message_records(
            Message(one.delivery_id, one.kind, NOW, event=msgspec.json.decode(one.event))
        )
    ]
    assert sorted(key for key, _ in records) == ["t1", "t2"]
    assert {one.account_id for one in rows} == {"a"}
    labels, dead = read_labels(raw(*(value for _, value in records)))
    assert dead.num_rows == 0
    assert sorted(labels.column("transaction_id").to_pylist()) == ["t1", "t2"]
    assert pa.compute.all(pa.compute.equal(labels.column("label"), 1)).as_py()
    assert set(labels.column("labelled_by").to_pylist()) == {"ann"}
