"""Claims expire, assignments end claims, reminders come, snoozed cases and alerts wait."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from beam_fraud.alerts.snoozes import snoozes_in_force
from beam_fraud.errors import Code
from beam_fraud.review.audit_log import entries
from beam_fraud.review.case import read_case
from beam_fraud.review.errors import ConflictError, MissingError
from beam_fraud.review.queue import QueuedCase
from beam_fraud.review.resending import resend
from beam_fraud.review.teamwork import (
    add_note,
    assign,
    claim,
    due_reminders,
    release,
    remind,
    snooze,
)
from beam_fraud.storage.database.connection import transaction
from beam_fraud.storage.database.tables import DELIVERIES
from tests.failing import fails
from tests.flagged import flagged_batch
from tests.reviewing import NOW, SETTINGS, do, opened, queued, read, row

SOON = NOW + timedelta(minutes=10)
LATER = NOW + timedelta(hours=1)


@pytest.fixture
def case(database: str) -> QueuedCase:
    [one] = opened(database, row("t1"))
    return one


def test_a_claim_keeps_others_out_until_it_expires(database: str, case: QueuedCase) -> None:
    claimed = do(database, claim, SETTINGS, case.case_id, "ann", NOW)
    assert claimed.claimed_by == "ann"
    assert claimed.claimed_until == NOW + timedelta(seconds=SETTINGS.claim_seconds)
    # One's own claim is extended, which is no news.
    longer = do(database, claim, SETTINGS, case.case_id, "ann", SOON)
    assert longer.claimed_until == SOON + timedelta(seconds=SETTINGS.claim_seconds)
    with fails(Code.CASE_CONFLICT, "ann"):
        do(database, claim, SETTINGS, case.case_id, "bob", SOON)
    assert do(database, claim, SETTINGS, case.case_id, "bob", LATER).claimed_by == "bob"
    assert [one.action for one in read(database, entries)] == ["claimed", "claimed"]


def test_a_claim_is_released_by_its_owner_or_by_force(database: str, case: QueuedCase) -> None:
    do(database, claim, SETTINGS, case.case_id, "ann", NOW)
    with pytest.raises(ConflictError):
        do(database, release, SETTINGS, case.case_id, "bob", NOW)
    do(database, release, SETTINGS, case.case_id, "lead", NOW, force=True)
    do(database, claim, SETTINGS, case.case_id, "bob", NOW)
    do(database, release, SETTINGS, case.case_id, "bob", NOW)
    assert queued(database)[0].claimed_by is None


def test_an_assignment_ends_the_claim_of_another(database: str, case: QueuedCase) -> None:
    do(database, claim, SETTINGS, case.case_id, "ann", NOW)
    new = do(database, assign, SETTINGS, case.case_id, case.version, "lead", NOW, to="bob")
    [now] = queued(database)
    assert (now.assigned_to, now.claimed_by, now.version) == ("bob", None, new)
    with pytest.raises(ConflictError):
        do(database, assign, SETTINGS, case.case_id, case.version, "lead", LATER, to="cleo")
    do(database, assign, SETTINGS, case.case_id, new, "lead", LATER, to=None)
    assert queued(database)[0].assigned_to is None


def test_reminders_come_to_who_set_them(database: str, case: QueuedCase) -> None:
    do(database, remind, SETTINGS, case.case_id, case.version, "ann", NOW, at=SOON)
    assert read(database, due_reminders, "ann", NOW) == []
    assert read(database, due_reminders, "bob", LATER) == []
    [due] = read(database, due_reminders, "ann", LATER)
    do(database, remind, SETTINGS, case.case_id, due.version, "ann", LATER, at=None)
    assert read(database, due_reminders, "ann", LATER) == []


def test_a_snooze_hides_the_case_and_the_alerts_of_its_account(
    database: str, case: QueuedCase
) -> None:
    new = do(database, snooze, SETTINGS, case.case_id, case.version, "ann", NOW, until=LATER)
    assert queued(database) == []
    assert [one.value for one in read(database, snoozes_in_force, NOW)] == ["a"]
    do(database, snooze, SETTINGS, case.case_id, new, "ann", SOON, until=None)
    assert len(queued(database)) == 1
    assert read(database, snoozes_in_force, SOON) == []
    with fails(Code.REVIEW_VALUE, "over"):
        do(database, snooze, SETTINGS, case.case_id, new, "ann", SOON, until=NOW)


def test_notes_are_kept_and_not_in_the_log(database: str, case: QueuedCase) -> None:
    text = "<b>4111 1111 1111 1111</b>"
    do(database, add_note, SETTINGS, case.case_id, "ann", text, NOW)
    assert [one.text for one in read(database, read_case, case.case_id, NOW).notes] == [text]
    assert "4111" not in str(read(database, entries))
    for wrong in ("", " ", "x" * 10_001):
        with fails(Code.REVIEW_VALUE, "note"):
            do(database, add_note, SETTINGS, case.case_id, "ann", wrong, LATER)
    with pytest.raises(MissingError):
        do(database, add_note, SETTINGS, "nowhere", "ann", "text", LATER)


def test_alerts_are_sent_again(database: str) -> None:
    from beam_fraud.sinks.database import DatabaseSink
    from beam_fraud.storage.database.connection import prepare_database

    prepare_database(database)
    DatabaseSink(database).open("run").write(flagged_batch(["t1"]), ["console", "slack"])
    [case] = opened(database)
    assert do(database, resend, SETTINGS, "t1", "ann", NOW) == 2
    with transaction(database) as connection:
        waiting = connection.scalars(select(DELIVERIES.c.channel).order_by(DELIVERIES.c.channel))
        assert list(waiting) == ["console", "slack"]
    assert [one.action for one in read(database, entries, case_id=case.case_id)] == ["alert_resent"]
    with pytest.raises(MissingError):
        do(database, resend, SETTINGS, "t2", "ann", NOW)
