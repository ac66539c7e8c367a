"""Notices are queued once for each channel, also after repeats."""

from __future__ import annotations

from sqlalchemy import select

from beam_fraud.alerts.queue import Notice, queue_notices
from beam_fraud.storage.database.connection import prepare_database, transaction, writing
from beam_fraud.storage.database.tables import DELIVERIES

MUTED = Notice(("large", "1704067200000000", "0"), "Rule 'large' is muted.")
OTHER = Notice(("large", "1704070800000000", "0"), "Rule 'large' is muted again.")
CHANNELS = ("console", "file:a.jsonl")


def queued(url: str, *notices: Notice) -> None:
    with writing(url) as connection:
        queue_notices(connection, CHANNELS, notices)


def test_a_notice_is_queued_once_for_each_channel_after_replays(database: str) -> None:
    prepare_database(url := database)
    queued(url, MUTED)
    with writing(url) as connection:
        connection.execute(
            DELIVERIES.update()
            .where(DELIVERIES.c.delivery_id == MUTED.delivery_id("console"))
            .values(state="sent", attempts=1)
        )
    queued(url, MUTED, OTHER)
    queued(url)
    with transaction(url) as connection:
        rows = connection.execute(select(DELIVERIES)).all()
    assert {(row.channel, row.text, row.state, row.attempts) for row in rows} == {
        ("console", MUTED.text, "sent", 1),
        ("file:a.jsonl", MUTED.text, "waiting", 0),
        ("console", OTHER.text, "waiting", 0),
        ("file:a.jsonl", OTHER.text, "waiting", 0),
    }
    assert len(rows) == 4
    assert {row.kind for row in rows} == {"notice"}
    assert all(row.created_at is not None and row.account_id is None for row in rows)


def test_a_notice_is_identified_by_its_subject_and_channel() -> None:
    ids = {notice.delivery_id(channel) for notice in (MUTED, OTHER) for channel in CHANNELS}
    assert len(ids) == 4
    assert all(len(id) == 32 for id in ids)
    assert Notice(MUTED.about, "other words").delivery_id("console") == MUTED.delivery_id("console")
