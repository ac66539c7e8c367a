"""A case with all that a person needs to decide it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache, lru_cache
from operator import itemgetter
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    CompoundSelect,
    Connection,
    Select,
    Table,
    and_,
    bindparam,
    column,
    exists,
    inspect,
    literal_column,
    select,
    union_all,
)

from beam_fraud.alerts.alert import Alert, Reason
from beam_fraud.alerts.pseudonym import Kind
from beam_fraud.alerts.wording import shown
from beam_fraud.errors import Code, UsageError
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
    LIST_REQUESTS,
)
from beam_fraud.storage.database.tables import ALERTS, AUDITED, FLAGGED, LABELS
from beam_fraud.storage.database.upsert import one_of
from beam_fraud.wording import did_you_mean

#: Earlier cases of an account, and entries of a timeline, that are read at most.
_EARLIER, _ENTRIES = 50, 500
#: Transactions of a case that are read at most: those with the highest expected loss.
MOST = 500
#: Newest rows of a merchant or device in which other cases are looked for.
_LINKED_ROWS = 40
#: Cases that a link names at most.
_LINKED_CASES = 10
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
        decision = row.decision or _SHOWN_DECISION
        fired = row.fired or row.audited_fired
        rules = msgspec.json.decode(fired, type=tuple[str, ...]) if fired else ()
        why = row.why or row.audited_why
        reasons = msgspec.json.decode(why, type=tuple[Reason, ...]) if why else ()
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
                tuple(labels.get(row.transaction_id, ())),
                row.alert is not None,
            )
        )
    return transactions


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


def _in_words(
    row: Any, decision: str, rules: tuple[str, ...], reasons: tuple[Reason, ...]
) -> tuple[str, ...]:
    if not reasons:
        return ()
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


class HistoryMark(NamedTuple):
    """A transaction of a case as drawings show it."""

    event_time: datetime
    amount: float
    verdict: str | None
    case_id: str


#: Whose transactions are drawn: an account or a merchant, and its id.
Drawn: TypeAlias = tuple[Literal["account", "merchant"], str]


@dataclass(frozen=True)
class Surroundings:
    """The marks of the plots of a case, and its links to other cases."""

    #: The newest transactions of each account and merchant that is drawn, by event time.
    marks: tuple[tuple[HistoryMark, ...], ...]
    #: What the case shares with others by its merchants.
    links: tuple[Link, ...]


def surroundings(
    connection: Connection, case: Case, drawn: Sequence[Drawn], *, limit: int = 100
) -> Surroundings:
    """Return the newest transactions of some, and other cases at the merchants of a case.

    The links are those of `links`: here, one statement reads both.

    Args:
      connection: in a transaction.
      case: the case.
      drawn: accounts and merchants.
      limit: maximum of transactions of each; 40 at least.
    """
    case_id = case.queued.case_id
    if case.queued.transactions > len(case.transactions):
        # It has merchants that were not read.
        merchants = _values(connection, "merchant_id", case_id)
    else:
        merchants = sorted(
            {one.merchant_id for one in case.transactions if one.merchant_id is not None}
        )
    others = [one for one in merchants if ("merchant", one) not in drawn]
    asked = [(f"{kind}_id", value, limit) for kind, value in drawn]
    asked += [("merchant_id", value, _LINKED_ROWS) for value in others]
    found = _newest_of_each(connection, asked)
    newest = dict(zip(others, found[len(drawn) :], strict=True))
    for (kind, value), rows in zip(drawn, found, strict=False):
        if kind == "merchant":
            newest[value] = rows
    linked = [
        ("merchant_id", one, [row.case_id for row in newest[one][-_LINKED_ROWS:][::-1]])
        for one in merchants
    ]
    marks = tuple(tuple(rows) for rows in found[: len(drawn)])
    return Surroundings(marks, tuple(_links(connection, case_id, linked, _LINKED_CASES)))


def _newest_of_each(
    connection: Connection, asked: Sequence[tuple[str, str, int]]
) -> list[list[HistoryMark]]:
    """Return the newest transactions with each value of a column, so many at most, by event time.

    One statement asks for several: each costs a server a round trip.
    """
    found: list[list[HistoryMark]] = [[] for _ in asked]
    for first in range(0, len(asked), _TOGETHER):
        some = asked[first : first + _TOGETHER]
        given: dict[str, object] = {}
        for number, (_, value, most) in enumerate(some):
            given |= {f"value_{number}": value, f"most_{number}": most}
        query = _newest_query(tuple(name for name, _, _ in some))
        for row in connection.execute(query, given).all():
            found[first + row[0]].append(HistoryMark._make(row[1:]))
    for rows in found:
        rows.sort(key=itemgetter(0))
    return found


@lru_cache(maxsize=64)
def _newest_query(names: tuple[str, ...]) -> CompoundSelect[Any]:
    """Return the query of the `most_N` newest transactions of each `value_N` of a column."""
    drawn = [_T[name] for name in HistoryMark._fields]
    queries = []
    for number, name in enumerate(names):
        newest = _newest(_T[name], drawn, f"_{number}").subquery()
        queries.append(select(literal_column(str(number)), *newest.c))
    return union_all(*queries)


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
    rows = connection.execute(_points(name), {"value": value, "most": limit}).all()
    points = [
        HistoryPoint(
            row.transaction_id,
            row.event_time,
            row.amount,
            row.score,
            row.flagged or _SHOWN_DECISION,
            row.verdict,
            row.case_id,
        )
        for row in rows
    ]
    return sorted(points, key=lambda one: (one.event_time, one.transaction_id))


# A page asks the same several times; to make a statement takes as long as to run it.
@cache
def _points(name: str) -> Select[*tuple[Any, ...]]:
    """Return the query of the `most` newest points of a `value` of a column."""
    newest = _newest(_T[name], list(_T)).subquery()
    # Null for an audited one.
    flagged = (
        select(FLAGGED.c.decision)
        .where(
            FLAGGED.c.transaction_id == newest.c.transaction_id,
            FLAGGED.c.model_id == newest.c.model_id,
        )
        .scalar_subquery()
    )
    return select(
        newest.c.transaction_id,
        newest.c.event_time,
        newest.c.amount,
        newest.c.score,
        flagged.label("flagged"),
        newest.c.verdict,
        newest.c.case_id,
    )


def _newest(
    of: ColumnElement[Any], columns: Sequence[ColumnElement[Any]], number: str = ""
) -> Select[Any]:
    """Return the query of columns of the `most` newest transactions of cases with a `value`."""
    return (
        select(*columns)
        .where(of == bindparam(f"value{number}"))
        # In the order of the index, of which no more is read.
        .order_by(_T.event_time.desc())
        .limit(bindparam(f"most{number}"))
    )


@dataclass(frozen=True)
class LinkedCase:
    """Another case."""

    case_id: str
    account_id: str | None
    #: None before the decision.
    verdict: str | None


@dataclass(frozen=True)
class Link:
    """Other cases with the same merchant, device or other value."""

    #: Name of the column.
    column: str
    value: str
    #: The newest first.
    cases: tuple[LinkedCase, ...]
    #: Whether there may be more.
    more: bool


def links(
    connection: Connection,
    case_id: str,
    *,
    columns: Sequence[str] = ("merchant_id",),
    limit: int = _LINKED_CASES,
) -> list[Link]:
    """Return what a case shares with others.

    Args:
      connection: in a transaction.
      case_id: the case.
      columns: names of columns of `flagged_transactions`, also of those that another program has
        added to the table; each needs an index.
      limit: maximum of cases of a value.

    Raises:
      UsageError: the table has no such column.
    """
    linked = [
        (name, str(value), found)
        for name in columns
        for value, found in _newest_linked(connection, name, case_id)
    ]
    return _links(connection, case_id, linked, limit)


def _links(
    connection: Connection,
    case_id: str,
    newest: Sequence[tuple[str, str, Sequence[str]]],
    limit: int,
) -> list[Link]:
    """Return the links of a case.

    Args:
      connection: in a transaction.
      case_id: the case.
      newest: columns and values, with the case of each of the newest rows that have the value.
      limit: maximum of cases of a value.
    """
    linked: list[tuple[str, str, list[str], bool]] = []
    for name, value, found in newest:
        ids = list(dict.fromkeys(one for one in found if one != case_id))
        more = len(ids) > limit or len(found) == _LINKED_ROWS
        if ids:
            linked.append((name, value, ids[:limit], more))
    every = {"case_ids": list(dict.fromkeys(one for _, _, ids, _ in linked for one in ids))}
    rows = connection.execute(_LINKED, every).all() if linked else []
    cases = {row.case_id: LinkedCase(*row) for row in rows}
    return [
        Link(name, value, tuple(cases[one] for one in ids if one in cases), more)
        for name, value, ids, more in linked
    ]


_LINKED = select(CASES.c.case_id, CASES.c.account_id, CASES.c.verdict).where(
    one_of(CASES.c.case_id, "case_ids")
)


def _newest_linked(
    connection: Connection, name: str, case_id: str
) -> Iterator[tuple[object, Sequence[str]]]:
    """Yield each value of a case, and the cases of the newest rows with it, the newest first."""
    if name in _INDEXED:
        own = _values(connection, name, case_id)
        found = _newest_of_each(connection, [(name, value, _LINKED_ROWS) for value in own])
        for value, rows in zip(own, found, strict=True):
            yield value, [row.case_id for row in reversed(rows)]
        return
    of = _column(connection, FLAGGED, name)
    of_case = select(_T.transaction_id).where(_T.case_id == bindparam("case_id"))
    of_own = select(of).where(FLAGGED.c.transaction_id.in_(of_case), of.is_not(None)).distinct()
    newest = (
        select(FLAGGED.c.transaction_id, FLAGGED.c.event_time)
        .where(of == bindparam("value"))
        .order_by(FLAGGED.c.event_time.desc())
        .limit(bindparam("most"))
        .subquery()
    )
    query = (
        select(_T.case_id)
        .join_from(newest, CASE_TRANSACTIONS, _T.transaction_id == newest.c.transaction_id)
        .order_by(newest.c.event_time.desc())
    )
    values_of = connection.scalars(of_own.select_from(FLAGGED), {"case_id": case_id}).all()
    for value in sorted(values_of, key=str):
        yield value, connection.scalars(query, {"value": value, "most": _LINKED_ROWS}).all()


#: Columns of the transactions of cases that an index has in the order of time, and values of them
#: that one statement asks for.
_INDEXED, _TOGETHER = ("account_id", "merchant_id"), 8


def _values(connection: Connection, name: str, case_id: str) -> list[str]:
    return sorted(connection.scalars(_own(name), {"case_id": case_id}).all())


@cache
def _own(name: str) -> Select[str]:
    """Return the query of the values of a case."""
    of = _T[name]
    return select(of).where(_T.case_id == bindparam("case_id"), of.is_not(None)).distinct()


def _column(connection: Connection, table: Table, name: str) -> Any:
    if name in table.c:
        return table.c[name]
    there = [one["name"] for one in inspect(connection).get_columns(table.name)]
    if name not in there:
        hint = did_you_mean(name, there, f"its columns are {', '.join(there)}")
        raise UsageError(f"links: {table.name} has no column {name!r}; {hint}", Code.COLUMN_MISSING)
    return column(name, _selectable=table)
