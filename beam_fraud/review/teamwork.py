"""Work together: claims, assignments, reminders, snoozes and notes."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, select

from beam_fraud.alerts.snoozes import Snooze, lift
from beam_fraud.alerts.snoozes import snooze as snooze_alerts
from beam_fraud.errors import Code, UsageError
from beam_fraud.review.errors import ConflictError
from beam_fraud.review.held_case import Work, change_case, version_now, write_case
from beam_fraud.review.queue import QueuedCase, queued_cases
from beam_fraud.review.settings import ReviewSettings
from beam_fraud.storage.database.review_tables import CASE_NOTES, CASES

#: Maximum of characters of a note or a comment.
MAX_TEXT = 10_000


def claim(
    connection: Connection,
    settings: ReviewSettings,
    case_id: str,
    who: str,
    now: datetime,
    *,
    version: int | None = None,
) -> QueuedCase:
    """Claim an open case for `settings.claim_seconds`, or extend one's own claim.

    Args:
      connection: in a write transaction.
      settings: of the review.
      case_id: the case.
      who: the person.
      now: the current time, UTC.
      version: as the person has seen it; None if any will do.

    Raises:
      MissingError: there is no such case.
      ConflictError: somebody else holds it, it is closed, or it has another version.
    """
    work = Work(connection, settings, who, now)
    case = work.hold(case_id, version)
    if case.state != "open":
        raise ConflictError(f"case {case_id}: it is closed")
    until = now + timedelta(seconds=settings.claim_seconds)
    # A claim changes nothing that others decide on: the version stays.
    change_case(connection, case_id, {"claimed_by": who, "claimed_until": until})
    if case.claimed_by != who:
        work.note("claimed", case, event=False)
    work.finish()
    return case._replace(claimed_by=who, claimed_until=until)


def release(
    connection: Connection,
    settings: ReviewSettings,
    case_id: str,
    who: str,
    now: datetime,
    *,
    force: bool = False,
) -> int:
    """End a claim; return the version of the case.

    Args:
      connection: in a write transaction.
      settings: of the review.
      case_id: the case.
      who: the person.
      now: the current time, UTC.
      force: whether to end somebody else's claim, too.

    Raises:
      MissingError: there is no such case.
      ConflictError: somebody else holds it.
    """
    work = Work(connection, settings, who, now)
    case = work.hold(case_id, force=force)
    if case.claimed_by is not None:
        change_case(connection, case_id, {"claimed_by": None, "claimed_until": None})
        work.note("released", case, {"from": case.claimed_by}, event=False)
        work.finish()
    return case.version


def assign(
    connection: Connection,
    settings: ReviewSettings,
    case_id: str,
    version: int,
    who: str,
    now: datetime,
    *,
    to: str | None,
) -> int:
    """Assign a case to a person, or to nobody; return its new version.

    The claim of anybody but that person ends.

    Raises:
      MissingError: there is no such case.
      ConflictError: it has another version.
    """
    work = Work(connection, settings, who, now)
    if work.was_done("assigned", case_id):
        return version_now(connection, case_id)
    case = work.hold(case_id, version, force=True)
    changes: dict[str, object] = {"assigned_to": to}
    if case.claimed_by != to:
        changes |= {"claimed_by": None, "claimed_until": None}
    new = write_case(connection, case, changes)
    work.note("assigned", case, {"to": to, "from": case.assigned_to})
    work.finish()
    return new


def remind(
    connection: Connection,
    settings: ReviewSettings,
    case_id: str,
    version: int,
    who: str,
    now: datetime,
    *,
    at: datetime | None,
) -> int:
    """Set a reminder of a case for oneself, or drop it; return the new version of the case.

    Raises:
      MissingError: there is no such case.
      ConflictError: it has another version.
    """
    work = Work(connection, settings, who, now)
    if work.was_done("reminder_set", case_id):
        return version_now(connection, case_id)
    case = work.hold(case_id, version, force=True)
    new = write_case(connection, case, {"remind_at": at, "remind_who": None if at is None else who})
    work.note("reminder_set", case, {"at": None if at is None else at.isoformat()}, event=False)
    work.finish()
    return new


def due_reminders(
    connection: Connection, who: str, now: datetime, limit: int = 50
) -> list[QueuedCase]:
    """Return the cases of which a person wants to be reminded now, the longest due first."""
    due = connection.scalars(_DUE, {"now": now, "who": who, "most": limit})
    return queued_cases(connection, list(due), now)


#: Each page of the queue asks for them: the statement is made once.
_DUE = (
    select(CASES.c.case_id)
    .where(CASES.c.remind_at <= bindparam("now"), CASES.c.remind_who == bindparam("who"))
    .order_by(CASES.c.remind_at, CASES.c.case_id)
    .limit(bindparam("most"))
)


def snooze(
    connection: Connection,
    settings: ReviewSettings,
    case_id: str,
    version: int,
    who: str,
    now: datetime,
    *,
    until: datetime | None,
    alerts: bool = True,
) -> int:
    """Take a case out of the queue until a time, or put it back; return its new version.

    Args:
      connection: in a write transaction.
      settings: of the review.
      case_id: the case.
      version: as the person has seen it.
      who: the person.
      now: the current time, UTC.
      until: end of the snooze; None ends it now.
      alerts: whether to snooze the alerts of its account, too.

    Raises:
      MissingError: there is no such case.
      ConflictError: it has another version, or somebody else holds it.
      UsageError: the end is not in the future.
    """
    if until is not None and until <= now:
        raise UsageError(f"snooze until {until.isoformat()}: is over", Code.REVIEW_VALUE)
    work = Work(connection, settings, who, now)
    action = "woken" if until is None else "snoozed"
    if work.was_done(action, case_id):
        return version_now(connection, case_id)
    case = work.hold(case_id, version)
    new = write_case(
        connection, case, {"snoozed_until": until, "claimed_by": None, "claimed_until": None}
    )
    if alerts and case.account_id is not None:
        if until is None:
            lift(connection, "account", case.account_id, now)
        else:
            snooze_alerts(connection, [Snooze("account", case.account_id, until)], now)
    work.note(action, case, {"until": None if until is None else until.isoformat()})
    work.finish()
    return new


@dataclass(frozen=True)
class Note:
    """A note of a person about a case; untrusted text."""

    note_id: str
    at: datetime
    who: str
    text: str


def add_note(
    connection: Connection,
    settings: ReviewSettings,
    case_id: str,
    who: str,
    text: str,
    now: datetime,
) -> Note:
    """Add a note to a case. Anybody may, also to a closed one.

    Raises:
      MissingError: there is no such case.
      UsageError: the text is empty or too long.
    """
    work = Work(connection, settings, who, now)
    case = work.hold(case_id, force=True)
    note = write_note(connection, case_id, who, text, now)
    # The log holds no text of people: it can never be erased.
    work.note("note_added", case, {"note_id": note.note_id}, event=False)
    work.finish()
    return note


def write_note(connection: Connection, case_id: str, who: str, text: str, now: datetime) -> Note:
    """Write a note without an entry of the audit log, for what has an entry of its own.

    Raises:
      UsageError: the text is empty or too long.
    """
    if not text.strip() or len(text) > MAX_TEXT:
        raise UsageError(
            f"note or comment: needs 1 to {MAX_TEXT:,} characters, this has {len(text):,}",
            Code.REVIEW_VALUE,
        )
    note = Note(uuid.uuid4().hex, now, who, text)
    connection.execute(CASE_NOTES.insert().values(case_id=case_id, **vars(note)))
    return note
