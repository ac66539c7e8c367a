"""A case with all that a person needs to decide it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Select,
    Subquery,
    Table,
    bindparam,
    column,
    inspect,
    select,
)

from beam_fraud.alerts.alert import Alert, Reason
from beam_fraud.alerts.pseudonym import Kind
from beam_fraud.alerts.wording import shown
from beam_fraud.errors import Code, UsageError
from beam_fraud.review.audit_log import entries
from beam_fraud.review.errors import missing_case
from beam_fraud.review.list_requests import ListRequest, requests
from beam_fraud.review.opening import parts
from beam_fraud.review.queue import QueuedCase, queued_cases
from beam_fraud.review.teamwork import Note
from beam_fraud.storage.database.review_tables import CASE_NOTES, CASE_TRANSACTIONS, CASES
from beam_fraud.storage.database.tables import AUDITED, FLAGGED, LABELS
from beam_fraud.storage.database.upsert import in_values
from beam_fraud.wording import did_you_mean

#: Earlier cases of an account, and entries of a timeline, that are read at most.
_EARLIER, _ENTRIES = 50, 500
#: Transactions of a case that are read at most: those with the highest expected loss.
MOST = 500
#: Newest rows of a merchant or device in which other cases are looked for.
_LINKED_ROWS = 40
#: Words of texts that are looked up at most, and what is no part of one.
_WORDS, _AROUND = 1_000, ".,;:!?()[]<>\"'"
#: What a person sees as the decision on an audited transaction: that on most flagged ones.
_SHOWN_DECISION = "review"


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
    found = queued_cases(connection, [case_id], now)
    if not found:
        raise missing_case(case_id)
    [queued] = found
    transactions = _transactions(connection, case_id)
    fired = Counter(rule for one in transactions for rule in one.rules)
    notes = select(*(CASE_NOTES.c[name] for name in Note.__dataclass_fields__))
    notes = notes.where(CASE_NOTES.c.case_id == case_id).order_by(CASE_NOTES.c.at)
    return Case(
        queued,
        tuple(transactions),
        tuple(fired.most_common()),
        tuple(_others_of_account(connection, queued, now)),
        tuple(Note(*row) for row in connection.execute(notes)),
        tuple(_timeline(connection, queued)),
        tuple(requests(connection, case_id=case_id)),
    )


def named_ids(connection: Connection, texts: Sequence[str]) -> dict[Kind, tuple[str, ...]]:
    """Return the ids of flagged transactions, their accounts and merchants that texts name.

    Args:
      connection: in a transaction.
      texts: what people wrote.
    """
    words = {word.strip(_AROUND) for text in texts for word in text.split()}
    some = sorted(word for word in words if word)[:_WORDS]
    columns: dict[Kind, Column[str]] = {
        "transaction": FLAGGED.c.transaction_id,
        "account": FLAGGED.c.account_id,
        "merchant": FLAGGED.c.merchant_id,
    }
    return {
        kind: tuple(connection.scalars(select(one).distinct().where(one.in_(some))))
        for kind, one in columns.items()
    }


def _others_of_account(connection: Connection, case: QueuedCase, now: datetime) -> list[QueuedCase]:
    if case.account_id is None:
        return []
    table = CASES.c
    query = (
        select(table.case_id)
        .where(table.account_id == case.account_id, table.case_id != case.case_id)
        .order_by(table.opened_at.desc())
        .limit(_EARLIER)
    )
    return queued_cases(connection, list(connection.scalars(query)), now)


def _timeline(connection: Connection, case: QueuedCase) -> list[TimelineEntry]:
    opened: dict[str, object] = {"transactions": case.transactions}
    if case.earlier_case_id is not None:
        opened["earlier_case_id"] = case.earlier_case_id
    newest_first = entries(connection, case_id=case.case_id, limit=_ENTRIES)
    return [
        TimelineEntry(case.opened_at, "", "opened", opened),
        *(TimelineEntry(one.at, one.who, one.action, one.detail) for one in newest_first[::-1]),
    ]


def _transactions(connection: Connection, case_id: str) -> list[CaseTransaction]:
    table = CASE_TRANSACTIONS.c
    query = select(CASE_TRANSACTIONS).where(table.case_id == case_id)
    highest = query.order_by((table.score * table.amount).desc(), table.transaction_id).limit(MOST)
    rows = sorted(connection.execute(highest), key=lambda row: (row.event_time, row.transaction_id))
    scored = _scored(connection, [(row.transaction_id, row.model_id) for row in rows])
    labels = _labels(connection, [row.transaction_id for row in rows])
    transactions = []
    for row in rows:
        # A row may have been erased by the retention of the database.
        decision, rules, reasons = scored.get(row.transaction_id, (_SHOWN_DECISION, (), ()))
        transactions.append(
            CaseTransaction(
                row.transaction_id,
                row.event_time,
                row.account_id,
                row.merchant_id,
                row.amount,
                row.score,
                decision,
                row.model_id,
                rules,
                reasons,
                _in_words(row, decision, rules, reasons),
                row.verdict,
                row.reason,
                row.decided_by,
                row.decided_at,
                tuple(labels[row.transaction_id]),
            )
        )
    return transactions


_Scored = tuple[str, tuple[str, ...], tuple[Reason, ...]]


def _scored(connection: Connection, keys: Sequence[tuple[str, str]]) -> dict[str, _Scored]:
    """Return decision, rules and reasons by transaction."""
    scored: dict[str, _Scored] = {}
    models = dict(keys)
    for some in parts(list(models)):
        for table in (AUDITED, FLAGGED):
            c = table.c
            # Not by pairs, for which SQLite would read the whole table.
            query = select(c.transaction_id, c.model_id, c.decision, c.rules, c.reasons).where(
                in_values(connection, c.transaction_id, some)
            )
            for row in connection.execute(query):
                if row.model_id != models[row.transaction_id]:
                    continue
                scored[row.transaction_id] = (
                    row.decision if table is FLAGGED else _SHOWN_DECISION,
                    msgspec.json.decode(row.rules, type=tuple[str, ...]),
                    msgspec.json.decode(row.reasons, type=tuple[Reason, ...]),
                )
    return scored


def _in_words(
    row: Any, decision: str, rules: tuple[str, ...], reasons: tuple[Reason, ...]
) -> tuple[str, ...]:
    alert = Alert(
        alert_id="",
        transaction_id=row.transaction_id,
        channel="",
        event_time=row.event_time,
        account_id=row.account_id,
        merchant_id=row.merchant_id,
        amount=row.amount,
        score=row.score,
        decision=decision,
        rules=rules,
        reasons=reasons,
        model_id=row.model_id,
    )
    return shown(alert).reason_lines


def _labels(
    connection: Connection, transactions: Sequence[str]
) -> defaultdict[str, list[GivenLabel]]:
    labels: defaultdict[str, list[GivenLabel]] = defaultdict(list)
    table = LABELS.c
    for some in parts(transactions):
        query = select(LABELS).where(table.transaction_id.in_(some))
        query = query.order_by(table.labelled_at.desc(), table.labelled_by.desc())
        for row in connection.execute(query):
            labels[row.transaction_id].append(
                GivenLabel(row.label, row.labelled_by, row.labelled_at, row.reason)
            )
    return labels


@dataclass(frozen=True)
class HistoryPoint:
    """A flagged or audited transaction of an account or merchant."""

    transaction_id: str
    event_time: datetime
    amount: float
    score: float
    decision: str
    verdict: str | None
    case_id: str


def account_history(
    connection: Connection, account_id: str, *, limit: int = 500
) -> list[HistoryPoint]:
    """Return the newest transactions of an account that are in cases, by event time.

    Args:
      connection: in a transaction.
      account_id: the account.
      limit: maximum of transactions.
    """
    return _history(connection, "account_id", account_id, limit)


def merchant_history(
    connection: Connection, merchant_id: str, *, limit: int = 500
) -> list[HistoryPoint]:
    """Return the newest transactions at a merchant that are in cases, by event time.

    Args:
      connection: in a transaction.
      merchant_id: the merchant.
      limit: maximum of transactions.
    """
    return _history(connection, "merchant_id", merchant_id, limit)


def _history(connection: Connection, name: str, value: str, limit: int) -> list[HistoryPoint]:
    points: dict[str, HistoryPoint] = {}
    for table in (AUDITED, FLAGGED):
        query = _newest_points(table, name)
        for row in connection.execute(query, {"value": value, "most": limit}):
            points[row.transaction_id] = HistoryPoint(
                row.transaction_id,
                row.event_time,
                row.amount,
                row.score,
                row.decision if table is FLAGGED else _SHOWN_DECISION,
                row.verdict,
                row.case_id,
            )
    ordered = sorted(points.values(), key=lambda one: (one.event_time, one.transaction_id))
    return ordered[-limit:]


# A page asks the same several times; to make a statement takes as long as to run it.
@cache
def _newest_points(table: Table, name: str) -> Select[*tuple[Any, ...]]:
    """Return the query of the `most` newest points of a `value` of a column."""
    newest, of_case = _newest(table, table.c[name]), CASE_TRANSACTIONS.c
    return select(
        newest.c.transaction_id,
        newest.c.event_time,
        newest.c.decision,
        of_case.amount,
        of_case.score,
        of_case.verdict,
        of_case.case_id,
    ).join_from(newest, CASE_TRANSACTIONS, of_case.transaction_id == newest.c.transaction_id)


def _newest(table: Table, of: ColumnElement[Any]) -> Subquery:
    # In the order of the index, of which no more is read.
    c = table.c
    return (
        select(c.transaction_id, c.event_time, c.decision)
        .where(of == bindparam("value"))
        .order_by(c.event_time.desc())
        .limit(bindparam("most"))
        .subquery()
    )


@dataclass(frozen=True)
class Link:
    """Other cases with the same merchant, device or other value."""

    #: Name of the column.
    column: str
    value: str
    #: The newest first.
    cases: tuple[QueuedCase, ...]
    #: Whether there may be more.
    more: bool


def links(
    connection: Connection,
    case_id: str,
    now: datetime,
    *,
    columns: Sequence[str] = ("merchant_id",),
    limit: int = 10,
) -> list[Link]:
    """Return what a case shares with others.

    Args:
      connection: in a transaction.
      case_id: the case.
      now: the current time, UTC.
      columns: names of columns of `flagged_transactions`, also of those that another program has
        added to the table; each needs an index.
      limit: maximum of cases of a value.

    Raises:
      UsageError: the table has no such column.
    """
    linked: list[tuple[str, str, list[str], bool]] = []
    own = select(CASE_TRANSACTIONS.c.transaction_id).where(CASE_TRANSACTIONS.c.case_id == case_id)
    for name in columns:
        of = _column(connection, FLAGGED, name)
        values = select(of).where(FLAGGED.c.transaction_id.in_(own), of.is_not(None))
        query = _newest_cases(name) if name in FLAGGED.c else _cases_of_newest(of)
        for value in sorted(connection.scalars(values.distinct().select_from(FLAGGED)), key=str):
            found = list(connection.scalars(query, {"value": value, "most": _LINKED_ROWS}))
            ids = list(dict.fromkeys(one for one in found if one != case_id))
            more = len(ids) > limit or len(found) == _LINKED_ROWS
            if ids:
                linked.append((name, str(value), ids[:limit], more))
    every = dict.fromkeys(one for _, _, ids, _ in linked for one in ids)
    cases = {one.case_id: one for one in queued_cases(connection, list(every), now)}
    return [
        Link(name, value, tuple(cases[one] for one in ids if one in cases), more)
        for name, value, ids, more in linked
    ]


@cache
def _newest_cases(name: str) -> Select[str]:
    return _cases_of_newest(FLAGGED.c[name])


def _cases_of_newest(of: ColumnElement[Any]) -> Select[str]:
    """Return the query of the cases of the `most` newest rows with a `value`, the newest first."""
    newest, of_case = _newest(FLAGGED, of), CASE_TRANSACTIONS.c
    return (
        select(of_case.case_id)
        .join_from(newest, CASE_TRANSACTIONS, of_case.transaction_id == newest.c.transaction_id)
        .order_by(newest.c.event_time.desc())
    )


def _column(connection: Connection, table: Table, name: str) -> Any:
    if name in table.c:
        return table.c[name]
    there = [one["name"] for one in inspect(connection).get_columns(table.name)]
    if name not in there:
        hint = did_you_mean(name, there, f"its columns are {', '.join(there)}")
        raise UsageError(f"links: {table.name} has no column {name!r}; {hint}", Code.COLUMN_MISSING)
    return column(name, _selectable=table)
