"""A case with all that a person needs to decide it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Table,
    and_,
    bindparam,
    exists,
    select,
)

from beam_fraud.alerts.alert import Reason
from beam_fraud.alerts.pseudonym import Kind
from beam_fraud.alerts.wording import reason_lines
from beam_fraud.review.audit_log import entries
from beam_fraud.review.errors import missing_case
from beam_fraud.review.list_requests import ListRequest, requests
from beam_fraud.review.queue import QUEUED, QueuedCase, queued_case, queued_cases
from beam_fraud.review.teamwork import Note
from beam_fraud.storage.database.review_tables import (
    AUDIT_LOG,
    CASE_NOTES,
    CASE_TRANSACTIONS,
    CASES,
    LINKED_VALUES,
    LIST_REQUESTS,
)
from beam_fraud.storage.database.tables import ALERTS, AUDITED, FLAGGED, LABELS

#: Earlier cases of an account, and entries of a timeline, that are read at most.
_EARLIER, _ENTRIES = 50, 500
#: Transactions of a case that are read at most: those with the highest expected loss.
MOST = 500
#: Words of texts that are looked up at most, and what is no part of one.
_WORDS, _AROUND = 1_000, ".,;:!?()[]<>\"'"
#: What a person sees as the decision on an audited transaction: that on most flagged ones.
SHOWN_DECISION = "review"


@dataclass(frozen=True)
class GivenLabel:
    """A label of a transaction."""

    #: 1 is fraud, 0 genuine.
    label: int
    labelled_by: str
    labelled_at: datetime
    #: A reason code or a few words; untrusted text.
    reason: str | None


@dataclass(frozen=True)
class CaseTransaction:
    """A transaction of a case. It does not tell whether it was flagged or audited."""

    transaction_id: str
    event_time: datetime
    account_id: str | None
    merchant_id: str | None
    amount: float
    score: float
    #: `review` or `decline`.
    decision: str
    model_id: str
    #: Names of the rules that fired.
    rules: tuple[str, ...]
    reasons: tuple[Reason, ...]
    #: The reasons in words, printable.
    reason_lines: tuple[str, ...]
    #: Null before the decision.
    verdict: str | None
    #: Reason code of the verdict.
    reason: str | None
    decided_by: str | None
    decided_at: datetime | None
    #: All labels, the newest first.
    labels: tuple[GivenLabel, ...]
    #: Whether it has an alert, which can be sent again.
    alerted: bool


@dataclass(frozen=True)
class TimelineEntry:
    """Something that happened to a case."""

    at: datetime
    #: A user; empty for the program.
    who: str
    action: str
    detail: Mapping[str, object]


@dataclass(frozen=True)
class Case:
    """A case."""

    queued: QueuedCase
    #: By event time; `queued.transactions` counts those that are left out as well.
    transactions: tuple[CaseTransaction, ...]
    #: Rule to the number of transactions at which it fired, the most frequent first.
    rules: tuple[tuple[str, int], ...]
    #: Other cases of the account, the newest first.
    earlier: tuple[QueuedCase, ...]
    #: The oldest first, as the timeline.
    notes: tuple[Note, ...]
    timeline: tuple[TimelineEntry, ...]
    requests: tuple[ListRequest, ...]


def read_case(connection: Connection, case_id: str, now: datetime) -> Case:
    """Read a case.

    Args:
      connection: in a transaction.
      case_id: the case.
      now: the current time, UTC.

    Raises:
      MissingError: there is none.
    """
    of = {"case_id": case_id}
    row = connection.execute(_CASE, of).first()
    if row is None:
        raise missing_case(case_id)
    queued = queued_case(row, now)
    transactions = _transactions(connection, case_id)
    fired = Counter(rule for one in transactions for rule in one.rules)
    return Case(
        queued,
        tuple(transactions),
        tuple(fired.most_common()),
        tuple(_others_of_account(connection, queued, now)) if row.has_others else (),
        tuple(Note(*one) for one in connection.execute(_NOTES, of).all()) if row.has_notes else (),
        tuple(_timeline(connection, queued, logged=row.has_entries)),
        tuple(requests(connection, case_id=case_id)) if row.has_requests else (),
    )


def _there_is(table: Table) -> ColumnElement[bool]:
    return exists().where(table.c.case_id == CASES.c.case_id)


_OTHER = CASES.alias("other")
#: A case, and what there is of it: most have little, and what is not there need not be asked for.
_CASE = QUEUED.where(CASES.c.case_id == bindparam("case_id")).add_columns(
    exists()
    .where(_OTHER.c.account_id == CASES.c.account_id, _OTHER.c.case_id != CASES.c.case_id)
    .label("has_others"),
    _there_is(CASE_NOTES).label("has_notes"),
    _there_is(AUDIT_LOG).label("has_entries"),
    _there_is(LIST_REQUESTS).label("has_requests"),
)
_NOTES = (
    select(*(CASE_NOTES.c[field.name] for field in fields(Note)))
    .where(CASE_NOTES.c.case_id == bindparam("case_id"))
    .order_by(CASE_NOTES.c.at)
)


def named_ids(
    connection: Connection, texts: Sequence[str], links: Sequence[str] = ()
) -> dict[Kind, tuple[str, ...]]:
    """Return the ids of flagged transactions, their accounts and merchants that texts name.

    Args:
      connection: in a transaction.
      texts: what people wrote.
      links: declared columns, whose values count as ids.
    """
    words = {word.strip(_AROUND) for text in texts for word in text.split()}
    some = sorted(word for word in words if word)[:_WORDS]
    columns: dict[Kind, Column[str]] = {
        "transaction": FLAGGED.c.transaction_id,
        "account": FLAGGED.c.account_id,
        "merchant": FLAGGED.c.merchant_id,
    }
    found: dict[Kind, tuple[str, ...]] = {
        kind: tuple(connection.scalars(select(one).distinct().where(one.in_(some))))
        for kind, one in columns.items()
    }
    if links:
        value = LINKED_VALUES.c.value
        linked = LINKED_VALUES.c.name.in_(links), value.in_(some)
        found["link"] = tuple(connection.scalars(select(value).distinct().where(*linked)))
    return found


def _others_of_account(connection: Connection, case: QueuedCase, now: datetime) -> list[QueuedCase]:
    if case.account_id is None:
        return []
    of = {"account": case.account_id, "case_id": case.case_id}
    return queued_cases(connection, connection.scalars(_OTHERS, of).all(), now)


_OTHERS = (
    select(CASES.c.case_id)
    .where(CASES.c.account_id == bindparam("account"), CASES.c.case_id != bindparam("case_id"))
    .order_by(CASES.c.opened_at.desc())
    .limit(_EARLIER)
)


def _timeline(connection: Connection, case: QueuedCase, *, logged: bool) -> list[TimelineEntry]:
    opened: dict[str, object] = {"transactions": case.transactions}
    if case.earlier_case_id is not None:
        opened["earlier_case_id"] = case.earlier_case_id
    newest_first = entries(connection, case_id=case.case_id, limit=_ENTRIES) if logged else []
    return [
        TimelineEntry(case.opened_at, "", "opened", opened),
        *(TimelineEntry(one.at, one.who, one.action, one.detail) for one in newest_first[::-1]),
    ]


def _transactions(connection: Connection, case_id: str) -> list[CaseTransaction]:
    of = {"case_id": case_id, "most": MOST}
    rows = sorted(
        connection.execute(_ROWS, of).all(), key=lambda row: (row.event_time, row.transaction_id)
    )
    labels = _labels(connection, of) if any(row.has_labels for row in rows) else {}
    transactions = []
    for row in rows:
        # Nothing tells which row was audited. A row may have been erased by the retention of the
        # database.
        fired = row.fired or row.audited_fired
        why = row.why or row.audited_why
        reasons = _REASONS.decode(why) if why else ()
        transactions.append(
            CaseTransaction(
                row.transaction_id,
                row.event_time,
                row.account_id,
                row.merchant_id,
                row.amount,
                row.score,
                row.decision or SHOWN_DECISION,
                row.model_id,
                _RULES.decode(fired) if fired else (),
                reasons,
                reason_lines(reasons),
                row.verdict,
                row.reason,
                row.decided_by,
                row.decided_at,
                tuple(labels.get(row.transaction_id, ())),
                row.alert is not None,
            )
        )
    return transactions


_RULES = msgspec.json.Decoder(tuple[str, ...])
_REASONS = msgspec.json.Decoder(tuple[Reason, ...])
_T = CASE_TRANSACTIONS.c
_HIGHEST = (
    select(CASE_TRANSACTIONS)
    .where(_T.case_id == bindparam("case_id"))
    .order_by((_T.score * _T.amount).desc(), _T.transaction_id)
    .limit(bindparam("most"))
    .subquery()
)
_ROWS = select(
    _HIGHEST,
    FLAGGED.c.decision,
    FLAGGED.c.rules.label("fired"),
    FLAGGED.c.reasons.label("why"),
    AUDITED.c.rules.label("audited_fired"),
    AUDITED.c.reasons.label("audited_why"),
    select(ALERTS.c.alert_id)
    .where(ALERTS.c.transaction_id == _HIGHEST.c.transaction_id)
    .limit(1)
    .scalar_subquery()
    .label("alert"),
    exists().where(LABELS.c.transaction_id == _HIGHEST.c.transaction_id).label("has_labels"),
).select_from(
    _HIGHEST.outerjoin(
        FLAGGED,
        and_(
            FLAGGED.c.transaction_id == _HIGHEST.c.transaction_id,
            FLAGGED.c.model_id == _HIGHEST.c.model_id,
        ),
    ).outerjoin(
        AUDITED,
        and_(
            AUDITED.c.transaction_id == _HIGHEST.c.transaction_id,
            AUDITED.c.model_id == _HIGHEST.c.model_id,
        ),
    )
)


def _labels(connection: Connection, of: Mapping[str, object]) -> Mapping[str, list[GivenLabel]]:
    labels: defaultdict[str, list[GivenLabel]] = defaultdict(list)
    for row in connection.execute(_LABELS, of).all():
        labels[row.transaction_id].append(
            GivenLabel(row.label, row.labelled_by, row.labelled_at, row.reason)
        )
    return labels


_LABELS = (
    select(LABELS)
    .join_from(_HIGHEST, LABELS, LABELS.c.transaction_id == _HIGHEST.c.transaction_id)
    .order_by(LABELS.c.labelled_at.desc(), LABELS.c.labelled_by.desc())
)
