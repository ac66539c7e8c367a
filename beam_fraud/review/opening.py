"""Open cases of the flagged and audited rows that are in none yet."""

from __future__ import annotations

import hashlib
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, Table, func, literal, select

from beam_fraud.review.settings import ReviewSettings
from beam_fraud.storage.database.inbox import arrivals
from beam_fraud.storage.database.retry import persistently
from beam_fraud.storage.database.review_tables import CASE_FACETS, CASE_TRANSACTIONS, CASES
from beam_fraud.storage.database.tables import AUDITED, FLAGGED
from beam_fraud.storage.database.upsert import Row, in_values, set_columns, upsert

T = TypeVar("T")

#: Key of PostgreSQL's advisory lock of those who open cases.
_LOCK = 0x6265616D63617365
#: Rows per transaction, which limits the wait of others.
ROWS_AT_A_TIME = 1_000
#: Values of one condition: SQLite takes at most 32,766 parameters in a statement.
_VALUES = 10_000
#: Newest cases whose scores stand in for those of audited rows.
_SCORES = 200
#: Characters of the id of a case: 60 random bits in base 32.
_LETTERS, _LENGTH = "0123456789abcdefghjkmnpqrstvwxyz", 12


@dataclass(frozen=True)
class Opened:
    """Counts of one call."""

    #: Transactions that are new in cases.
    transactions: int
    #: Cases that are new.
    cases: int
    #: Whether more rows may wait.
    more: bool


@dataclass
class _Transaction:
    """The rows of a transaction, of all models in this call."""

    transaction_id: str
    event_time: datetime
    account_id: str | None
    merchant_id: str | None
    amount: float
    score: float
    model_id: str
    probability: float
    facets: set[tuple[str, str]] = field(default_factory=set)


def open_cases(
    url: str, settings: ReviewSettings, now: datetime, *, most: int = ROWS_AT_A_TIME
) -> Opened:
    """Put the inbox's flagged transactions and audited ones into cases, in one transaction.

    An account has one open case. A transaction that is in a case already stays there, whatever
    other model flags it. A closed case stays closed: new transactions of its account open another
    one. Any number of processes may call this: while one works, the others return at once.

    Args:
      url: a prepared database.
      settings: says when a case is due.
      now: the current time, UTC.
      most: maximum of flagged transactions, and of audited ones.

    Raises:
      FraudError: the database fails or cannot be reached.
    """
    return persistently(url, lambda connection: _open(connection, settings, now, most))


def _open(connection: Connection, settings: ReviewSettings, now: datetime, most: int) -> Opened:
    if not take_turn(connection, wait=False):
        return Opened(0, 0, False)
    arrived = arrivals(connection, most)
    flagged = _flagged(connection, arrived.transactions)
    audited = _audited(connection, most)
    found = _transactions(flagged, audited, _stand_ins(connection, flagged, audited))
    where = _cases_of(connection, found)
    _raise_scores(connection, [found[key] for key in where], where)
    new = [found[key] for key in found if key not in where]
    cases = _put_into_cases(connection, new, settings, now, where)
    _add_facets(connection, found.values(), where)
    arrived.done(connection)
    columns = {
        "transaction_id": [row.transaction_id for row in audited],
        "model_id": [row.model_id for row in audited],
        "case_id": [where[row.transaction_id] for row in audited],
    }
    set_columns(connection, AUDITED, columns)
    return Opened(len(new), cases, arrived.more or len(audited) == most)


def take_turn(connection: Connection, *, wait: bool) -> bool:
    """Keep others from opening cases until the end of the transaction.

    Args:
      connection: in a write transaction.
      wait: whether to wait for another one who does it.

    Returns:
      Whether it succeeded.
    """
    # A write transaction of SQLite is alone.
    if connection.dialect.name != "postgresql":
        return True
    if wait:
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        return True
    return bool(connection.scalar(select(func.pg_try_advisory_xact_lock(_LOCK))))


def _flagged(connection: Connection, transaction_ids: Sequence[str]) -> list[Any]:
    """Return the rows of transactions, of all models; those that were erased are not there."""
    query = _columns(FLAGGED, literal(1.0).label("probability"))
    key = FLAGGED.c.transaction_id
    return [
        row
        for some in parts(transaction_ids)
        for row in connection.execute(query.where(in_values(connection, key, some)))
    ]


def _audited(connection: Connection, most: int) -> Sequence[Any]:
    """Return audited rows that are in no case yet."""
    query = _columns(AUDITED, AUDITED.c.probability).where(AUDITED.c.case_id.is_(None))
    # A row that a run writes again is left for the next call: nobody waits for the other.
    return connection.execute(query.limit(most).with_for_update(skip_locked=True)).all()


def _columns(table: Table, probability: ColumnElement[float]) -> Select[*tuple[Any, ...]]:
    c = table.c
    return select(
        c.transaction_id,
        c.model_id,
        c.event_time,
        c.account_id,
        c.merchant_id,
        c.amount,
        c.score,
        c.rules,
        probability,
    )


def _stand_ins(
    connection: Connection, flagged: Sequence[Any], audited: Sequence[Any]
) -> list[float]:
    """Return scores that audited transactions show: those of flagged ones."""
    if not audited:
        return []
    newest = select(CASES.c.max_score).where(CASES.c.state == "open")
    newest = newest.order_by(CASES.c.opened_at.desc()).limit(_SCORES)
    return [row.score for row in flagged] or list(connection.scalars(newest))


def _transactions(
    flagged: Sequence[Any], audited: Sequence[Any], stand_ins: Sequence[float]
) -> dict[str, _Transaction]:
    """Return transactions by id, each with the highest score of its rows."""
    found: dict[str, _Transaction] = {}
    for row in (*flagged, *audited):
        score = row.score
        if row.probability < 1 and stand_ins:
            digest = hashlib.sha256(row.transaction_id.encode("utf-8", "surrogatepass")).digest()
            score = stand_ins[int.from_bytes(digest[:8]) % len(stand_ins)]
        one = found.get(row.transaction_id)
        if one is None:
            one = found[row.transaction_id] = _Transaction(
                row.transaction_id,
                row.event_time,
                row.account_id,
                row.merchant_id,
                row.amount,
                score,
                row.model_id,
                row.probability,
            )
        elif (row.probability, score) > (one.probability, one.score):
            one.score, one.model_id = score, row.model_id
            one.probability = row.probability
        one.facets.add(("model", row.model_id))
        one.facets.update(("rule", rule) for rule in msgspec.json.decode(row.rules))
        if row.merchant_id is not None:
            one.facets.add(("merchant", row.merchant_id))
    return found


def _cases_of(connection: Connection, found: Iterable[str]) -> dict[str, str]:
    """Return the case of each transaction that is in one."""
    table = CASE_TRANSACTIONS.c
    where: dict[str, str] = {}
    for some in parts(list(found)):
        query = select(table.transaction_id, table.case_id).where(
            in_values(connection, table.transaction_id, some)
        )
        where.update((row.transaction_id, row.case_id) for row in connection.execute(query))
    return where


def parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Divide values, so that each part fits a statement."""
    return (values[start : start + _VALUES] for start in range(0, len(values), _VALUES))


def _raise_scores(
    connection: Connection, again: Sequence[_Transaction], where: dict[str, str]
) -> None:
    """Give transactions of open cases the higher score of a model that flags them later."""
    if not again:
        return
    table = CASE_TRANSACTIONS.c
    scores: dict[str, tuple[float, float]] = {}
    for some in parts([one.transaction_id for one in again]):
        query = select(table.transaction_id, table.score, table.probability).where(
            in_values(connection, table.transaction_id, some), table.verdict.is_(None)
        )
        scores.update((row[0], (row.probability, row.score)) for row in connection.execute(query))
    raised = [
        one
        for one in again
        if one.transaction_id in scores
        and (one.probability, one.score) > scores[one.transaction_id]
    ]
    set_columns(
        connection,
        CASE_TRANSACTIONS,
        {
            "transaction_id": [one.transaction_id for one in raised],
            "score": [one.score for one in raised],
            "model_id": [one.model_id for one in raised],
            "probability": [one.probability for one in raised],
        },
    )
    count_again(connection, {where[one.transaction_id] for one in raised})


def count_again(connection: Connection, case_ids: Iterable[str]) -> None:
    """Compute the sums of cases from their transactions, as another version of the case.

    Who decides has then seen all transactions.
    """
    table = CASE_TRANSACTIONS.c
    for some in parts(sorted(case_ids)):
        held = select(CASES.c.case_id, CASES.c.version).where(
            in_values(connection, CASES.c.case_id, some)
        )
        held = held.order_by(CASES.c.case_id).with_for_update()
        versions = {row.case_id: row.version + 1 for row in connection.execute(held)}
        sums = (
            select(
                table.case_id,
                func.count().label("transactions"),
                (func.count() - func.count(table.verdict)).label("undecided"),
                func.sum(table.amount).label("amount"),
                # Refunds lose nothing.
                func.sum(table.score * _positive(table.amount)).label("expected_loss"),
                func.max(table.score).label("max_score"),
                func.max(table.event_time).label("last_event_at"),
            )
            .where(in_values(connection, table.case_id, some))
            .group_by(table.case_id)
        )
        rows = connection.execute(sums).all()
        columns = {
            name: [getattr(row, name) for row in rows]
            for name in sums.selected_columns.keys()  # noqa: SIM118
        }
        columns["version"] = [versions[row.case_id] for row in rows]
        set_columns(connection, CASES, columns)


def _positive(amount: Any) -> Any:
    return (amount + func.abs(amount)) / 2


def _put_into_cases(
    connection: Connection,
    new: Sequence[_Transaction],
    settings: ReviewSettings,
    now: datetime,
    where: dict[str, str],
) -> int:
    """Write transactions that are new to the review; add them to `where`; return the new cases."""
    if not new:
        return 0
    accounts = sorted({one.account_id for one in new if one.account_id is not None})
    open_now: dict[str, str] = {}
    earlier: dict[str, str] = {}
    columns = CASES.c.account_id, CASES.c.case_id, CASES.c.state, CASES.c.opened_at
    for some in parts(accounts):
        # Who decides a case must not close it meanwhile. By account alone: for the open ones SQLite
        # looks through all that are open.
        of_accounts = select(*columns).where(in_values(connection, CASES.c.account_id, some))
        locked = connection.execute(of_accounts.order_by(CASES.c.case_id).with_for_update())
        for row in sorted(locked, key=attrgetter("opened_at")):
            earlier[row.account_id] = row.case_id
            if row.state == "open":
                open_now[row.account_id] = row.case_id
    groups: dict[str, list[_Transaction]] = defaultdict(list)
    opened: dict[str, str | None] = {}
    for one in new:
        account = one.account_id
        case_id = None if account is None else open_now.get(account)
        if case_id is None:
            case_id = new_id()
            opened[case_id] = account
            if account is not None:
                open_now[account] = case_id
        groups[case_id].append(one)
        where[one.transaction_id] = case_id
    due = now + timedelta(seconds=settings.sla_seconds)
    cases = [
        {
            "case_id": case_id,
            "account_id": account,
            "state": "open",
            "version": 1,
            "opened_at": now,
            "due_at": due,
            "earlier_case_id": None if account is None else earlier.get(account),
            **_sums(groups[case_id]),
        }
        for case_id, account in opened.items()
    ]
    if cases:
        connection.execute(CASES.insert(), cases)
    upsert(
        connection,
        CASE_TRANSACTIONS,
        [
            {name: value for name, value in vars(one).items() if name != "facets"}
            | {"case_id": where[one.transaction_id]}
            for one in new
        ],
    )
    count_again(connection, groups.keys() - opened.keys())
    return len(cases)


def new_id() -> str:
    """Return a random id for people: 12 letters and digits, none of which looks like another."""
    number = secrets.randbits(5 * _LENGTH)
    return "".join(_LETTERS[number >> 5 * place & 31] for place in range(_LENGTH))


def _sums(transactions: Sequence[_Transaction]) -> dict[str, object]:
    return {
        "transactions": len(transactions),
        "undecided": len(transactions),
        "amount": sum(one.amount for one in transactions),
        "expected_loss": sum(one.score * max(one.amount, 0.0) for one in transactions),
        "max_score": max(one.score for one in transactions),
        "last_event_at": max(one.event_time for one in transactions),
    }


def _add_facets(
    connection: Connection, transactions: Iterable[_Transaction], where: dict[str, str]
) -> None:
    facets = {
        (kind, value, where[one.transaction_id])
        for one in transactions
        for kind, value in one.facets
    }
    rows: list[Row] = [
        {"kind": kind, "value": value, "case_id": case_id}
        for kind, value, case_id in sorted(facets)
    ]
    upsert(connection, CASE_FACETS, rows)
