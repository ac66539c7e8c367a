"""Decide cases: verdicts on transactions, which are labels; reopening; many cases at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, select

from beam_fraud.errors import Code, UsageError
from beam_fraud.review.errors import ConflictError, MissingError
from beam_fraud.review.events import queue_labels
from beam_fraud.review.held_case import Work, version_now, write_case
from beam_fraud.review.opening import take_turn
from beam_fraud.review.queue import QueuedCase
from beam_fraud.review.settings import ReviewSettings, Verdict
from beam_fraud.review.teamwork import write_note
from beam_fraud.storage.database.review_tables import CASE_TRANSACTIONS, CASES
from beam_fraud.storage.database.tables import LABELS
from beam_fraud.storage.database.upsert import set_columns, upsert

#: Maximum of cases that are closed together.
MAX_BULK = 500
#: Verdict to label; a person who is unsure labels nothing.
_LABEL = {"fraud": 1, "genuine": 0}


@dataclass(frozen=True)
class Decision:
    """A decision of a person."""

    verdict: Verdict
    #: A reason code of the settings, or None.
    reason: str | None = None
    #: Becomes a note; None or empty for none.
    comment: str | None = None
    #: Ids of transactions of the case; None for all that are undecided.
    transactions: Sequence[str] | None = None


def decide(
    connection: Connection,
    settings: ReviewSettings,
    case_id: str,
    version: int,
    who: str,
    decision: Decision,
    now: datetime,
) -> int:
    """Decide on transactions of a case; it closes when none is undecided.

    `fraud` and `genuine` are labels from now on. A transaction that has a verdict gets the new one
    if it is named.

    Args:
      connection: in a write transaction.
      settings: of the review.
      case_id: the case.
      version: as the person has seen it.
      who: the person.
      decision: the decision.
      now: the current time, UTC.

    Returns:
      The new version of the case.

    Raises:
      MissingError: there is no such case.
      ConflictError: it has another version, is closed, or somebody else works on it.
      UsageError: the reason is unknown, or a transaction is not of the case.
    """
    settings.check_reason(decision.reason, decision.verdict)
    work = Work(connection, settings, who, now)
    if work.was_done("decided", case_id):
        return version_now(connection, case_id)
    case = work.hold(case_id, version)
    new = _decide(work, case, decision)
    work.finish()
    return new


def _decide(work: Work, case: QueuedCase, decision: Decision) -> int:
    if case.state != "open":
        raise ConflictError(f"case {case.case_id}: it is closed; reopen it first")
    connection = work.connection
    rows = connection.execute(_TRANSACTIONS, {"case_id": case.case_id}).all()
    decided = _chosen(case, rows, decision.transactions)
    keys, verdict = [row.transaction_id for row in decided], decision.verdict
    set_columns(
        connection,
        CASE_TRANSACTIONS,
        {
            "transaction_id": keys,
            "verdict": [verdict] * len(keys),
            "reason": [decision.reason] * len(keys),
            "decided_by": [work.who] * len(keys),
            "decided_at": [work.now] * len(keys),
        },
    )
    if verdict in _LABEL:
        _label(work, decided, _LABEL[verdict], decision.reason)
    verdicts = {row.transaction_id: row.verdict for row in rows} | dict.fromkeys(keys, verdict)
    undecided = sum(one is None for one in verdicts.values())
    changes: dict[str, object] = {"undecided": undecided}
    if not undecided:
        distinct = set(verdicts.values())
        changes |= {
            "state": "closed",
            "closed_at": work.now,
            "closed_by": work.who,
            "verdict": distinct.pop() if len(distinct) == 1 else "mixed",
            "claimed_by": None,
            "claimed_until": None,
            "snoozed_until": None,
            "remind_at": None,
            "remind_who": None,
        }
    version = write_case(connection, case, changes)
    detail: dict[str, object] = {
        "verdict": verdict,
        "transactions": len(keys),
        "undecided": undecided,
    }
    if decision.reason is not None:
        detail["reason"] = decision.reason
    if decision.comment:
        note = write_note(connection, case.case_id, work.who, decision.comment, work.now)
        detail["note_id"] = note.note_id
    work.note("decided", case, detail)
    return version


_TRANSACTIONS = (
    select(CASE_TRANSACTIONS)
    .where(CASE_TRANSACTIONS.c.case_id == bindparam("case_id"))
    .order_by(CASE_TRANSACTIONS.c.transaction_id)
)


def _chosen(case: QueuedCase, rows: Sequence[Any], named: Sequence[str] | None) -> list[Any]:
    if named is None:
        return [row for row in rows if row.verdict is None]
    wanted = set(named)
    chosen = [row for row in rows if row.transaction_id in wanted]
    if not chosen or len(chosen) < len(wanted):
        raise UsageError(
            f"case {case.case_id}: a transaction to decide is not of it", Code.REVIEW_VALUE
        )
    return chosen


def _label(work: Work, decided: Sequence[Any], label: int, reason: str | None) -> None:
    rows: list[dict[str, object]] = [
        {
            "transaction_id": row.transaction_id,
            "account_id": row.account_id,
            "merchant_id": row.merchant_id,
            "event_time": row.event_time,
            "label": label,
            "labelled_at": work.now,
            "labelled_by": work.who,
            "reason": reason,
            "probability": row.probability,
        }
        for row in decided
    ]
    upsert(work.connection, LABELS, rows)
    queue_labels(work.connection, work.settings.label_channels, rows)


def reopen(
    connection: Connection,
    settings: ReviewSettings,
    case_id: str,
    version: int,
    who: str,
    now: datetime,
    *,
    comment: str,
) -> int:
    """Open a closed case again; its transactions are undecided, its labels stay as history.

    Args:
      connection: in a write transaction.
      settings: of the review.
      case_id: the case.
      version: as the person has seen it.
      who: the person.
      now: the current time, UTC.
      comment: why; becomes a note.

    Returns:
      The new version of the case.

    Raises:
      MissingError: there is no such case.
      ConflictError: it has another version, is open, or its account has another open case.
    """
    # Nobody opens another case of the account meanwhile.
    take_turn(connection, wait=True)
    work = Work(connection, settings, who, now)
    if work.was_done("reopened", case_id):
        return version_now(connection, case_id)
    case = work.hold(case_id, version)
    if case.state == "open":
        raise ConflictError(f"case {case_id}: it is open")
    other = select(CASES.c.case_id).where(
        CASES.c.account_id == case.account_id, CASES.c.state == "open"
    )
    if case.account_id is not None and (there := connection.scalar(other)) is not None:
        raise ConflictError(f"case {case_id}: its account has the open case {there}; work there")
    table = CASE_TRANSACTIONS.c
    done = connection.execute(
        CASE_TRANSACTIONS.update()
        .where(table.case_id == case_id)
        .values(verdict=None, reason=None, decided_by=None, decided_at=None)
    )
    note = write_note(connection, case_id, who, comment, now)
    new = write_case(
        connection,
        case,
        {
            "state": "open",
            "closed_at": None,
            "closed_by": None,
            "verdict": None,
            "undecided": done.rowcount,
        },
    )
    work.note("reopened", case, {"note_id": note.note_id})
    work.finish()
    return new


@dataclass(frozen=True)
class BulkResult:
    """The results of a decision on many cases."""

    closed: tuple[str, ...]
    #: Case to why it was not closed.
    conflicts: Mapping[str, str]


def bulk_close(
    connection: Connection,
    settings: ReviewSettings,
    cases: Mapping[str, int],
    who: str,
    decision: Decision,
    now: datetime,
) -> BulkResult:
    """Decide all undecided transactions of many cases; those in conflict are left as they are.

    Args:
      connection: in a write transaction.
      settings: of the review.
      cases: id to the version that the person has seen; at most `MAX_BULK`.
      who: the person.
      decision: the decision, of all transactions, with a comment.
      now: the current time, UTC.

    Raises:
      UsageError: the reason is unknown, the comment is empty, or these are too many cases.
    """
    settings.check_reason(decision.reason, decision.verdict)
    if not (decision.comment or "").strip() or len(cases) > MAX_BULK:
        raise UsageError(
            f"closing many: needs a comment, and takes at most {MAX_BULK} cases", Code.REVIEW_VALUE
        )
    work = Work(connection, settings, who, now)
    closed: list[str] = []
    conflicts: dict[str, str] = {}
    # In the order of ids: two people cannot wait for each other.
    for case_id in sorted(cases):
        try:
            if not work.was_done("decided", case_id):
                _decide(work, work.hold(case_id, cases[case_id]), decision)
            closed.append(case_id)
        except (ConflictError, MissingError) as error:
            conflicts[case_id] = str(error)
    work.finish()
    return BulkResult(tuple(closed), conflicts)
