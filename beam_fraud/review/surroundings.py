"""Read the newest transactions of a case's account and merchants, and linked cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from operator import itemgetter
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Select,
    bindparam,
    exists,
    func,
    literal_column,
    select,
    union_all,
)

from beam_fraud.review.case import SHOWN_DECISION, Case
from beam_fraud.storage.database.review_tables import CASE_TRANSACTIONS, CASES, LINKED_VALUES
from beam_fraud.storage.database.tables import FLAGGED
from beam_fraud.storage.database.upsert import one_of
from beam_fraud.wording import did_you_mean

_Asked = TypeVar("_Asked")
#: Newest rows of a merchant or device in which other cases are looked for.
_LINKED_ROWS = 40
#: Cases that a link names at most.
_LINKED_CASES = 10
#: Newest values of declared columns of a case by which it is linked at most.
_LINKED_VALUES = 40
#: Values that one statement asks for at most.
_TOGETHER = 8


class HistoryMark(NamedTuple):
    """A transaction of a case as drawings show it."""

    event_time: datetime
    amount: float
    verdict: str | None
    case_id: str


#: Whose transactions are drawn: an account or a merchant, and its id.
Drawn: TypeAlias = tuple[Literal["account", "merchant"], str]


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

    #: Name of the column: `merchant_id`, or one that was declared.
    column: str
    value: str
    #: The newest first.
    cases: tuple[LinkedCase, ...]
    #: Whether there may be more.
    more: bool


@dataclass(frozen=True)
class Surroundings:
    """The marks of the plots of a case, and its links to other cases."""

    #: The newest transactions of each account and merchant that is drawn, by event time.
    marks: tuple[tuple[HistoryMark, ...], ...]
    #: What the case shares with others: merchants, then values of declared columns.
    links: tuple[Link, ...]
    #: Declared columns and the case's values of them, the newest first, shared or not.
    values: tuple[tuple[str, str], ...] = ()


def surroundings(
    connection: Connection,
    case: Case,
    drawn: Sequence[Drawn],
    columns: Sequence[str] = (),
    *,
    limit: int = 100,
) -> Surroundings:
    """Return the newest transactions of some, and other cases that a case shares something with.

    Args:
      connection: in a transaction.
      case: the case.
      drawn: accounts and merchants.
      columns: columns of `linked_values` that link cases as merchants do.
      limit: maximum of transactions of each; 40 at least.
    """
    case_id = case.queued.case_id
    if case.queued.transactions > len(case.transactions):
        # It has merchants that were not read.
        merchants = sorted(connection.scalars(_MERCHANTS, {"case_id": case_id}).all())
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
    values: list[tuple[str, str]] = []
    if columns:
        own = {"case_id": case_id, "names": list(columns), "most": _LINKED_VALUES}
        values = [(row.name, row.value) for row in connection.execute(_VALUES, own)]
        linked += _newest_with_each(connection, sorted(values, key=_in_order(columns)))
    marks = tuple(tuple(rows) for rows in found[: len(drawn)])
    return Surroundings(marks, tuple(_links(connection, case_id, linked)), tuple(values))


def _in_order(columns: Sequence[str]) -> Any:
    return lambda one: (columns.index(one[0]), one[1])


_T, _L = CASE_TRANSACTIONS.c, LINKED_VALUES.c
_MERCHANTS = (
    select(_T.merchant_id)
    .where(_T.case_id == bindparam("case_id"), _T.merchant_id.is_not(None))
    .distinct()
)
_VALUES = (
    select(_L.name, _L.value)
    .join_from(CASE_TRANSACTIONS, LINKED_VALUES, _L.transaction_id == _T.transaction_id)
    .where(_T.case_id == bindparam("case_id"), one_of(_L.name, "names"))
    .group_by(_L.name, _L.value)
    .order_by(func.max(_L.event_time).desc(), _L.name, _L.value)
    .limit(bindparam("most"))
)


def absent_links(connection: Connection, columns: Sequence[str]) -> str | None:
    """Return a warning of declared columns of which a database has no values, or None.

    Args:
      connection: in a transaction.
      columns: their names.
    """
    absent = [name for name in columns if not connection.scalar(_THERE, {"name": name})]
    if not absent:
        return None
    there = list(_names(connection))
    has = f"it has those of {', '.join(there)}" if there else "it has none of any"
    hints = dict.fromkeys(did_you_mean(name, there, has) for name in absent)
    return (
        f"--link {', '.join(absent)}: the database has no values of such a column yet; "
        f"{'; '.join(hints)}; score, stream and serve write them with --link and the name of a "
        "column"
    )


_THERE = select(exists().where(_L.name == bindparam("name")))
_NEXT = select(func.min(_L.name)).where(_L.name > bindparam("after"))


def _names(connection: Connection) -> Iterator[str]:
    """Yield the columns that the table has values of, each by one look at its index."""
    name = ""
    while (after := connection.scalar(_NEXT, {"after": name})) is not None:
        name = after
        yield name


def _parts(asked: Sequence[_Asked]) -> Iterator[tuple[int, Sequence[_Asked]]]:
    """Yield what one statement asks for, and the number of the first: each costs a round trip."""
    for first in range(0, len(asked), _TOGETHER):
        yield first, asked[first : first + _TOGETHER]


def _newest_of_each(
    connection: Connection, asked: Sequence[tuple[str, str, int]]
) -> list[list[HistoryMark]]:
    """Return the newest transactions with each value of a column, so many at most, by event time.

    An index has each of the columns in the order of time.
    """
    found: list[list[HistoryMark]] = [[] for _ in asked]
    for first, some in _parts(asked):
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


def _newest_with_each(
    connection: Connection, values: Sequence[tuple[str, str]]
) -> list[tuple[str, str, list[str]]]:
    """Return declared columns and values, with the cases of the newest rows of each."""
    found: list[list[tuple[datetime, str]]] = [[] for _ in values]
    for first, some in _parts(values):
        given: dict[str, object] = {"most": _LINKED_ROWS}
        for number, (name, value) in enumerate(some):
            given |= {f"name_{number}": name, f"value_{number}": value}
        for row in connection.execute(_with_each_query(len(some)), given).all():
            found[first + row[0]].append((row[1], row[2]))
    return [
        (name, value, [case_id for _, case_id in sorted(rows, reverse=True)])
        for (name, value), rows in zip(values, found, strict=True)
    ]


@cache
def _with_each_query(count: int) -> CompoundSelect[Any]:
    """Return the query of the cases of the `most` newest rows with each `value_N` of `name_N`."""
    queries = []
    for number in range(count):
        newest = (
            select(_L.transaction_id, _L.event_time)
            .where(_L.name == bindparam(f"name_{number}"), _L.value == bindparam(f"value_{number}"))
            # In the order of the index, of which no more is read.
            .order_by(_L.event_time.desc())
            .limit(bindparam("most"))
            .subquery()
        )
        queries.append(
            select(literal_column(str(number)), newest.c.event_time, _T.case_id).join_from(
                newest, CASE_TRANSACTIONS, _T.transaction_id == newest.c.transaction_id
            )
        )
    return union_all(*queries)


def _links(
    connection: Connection, case_id: str, newest: Sequence[tuple[str, str, Sequence[str]]]
) -> list[Link]:
    """Return the links of a case.

    Args:
      connection: in a transaction.
      case_id: the case.
      newest: columns and values, with the case of each of the newest rows that have the value.
    """
    linked: list[tuple[str, str, list[str], bool]] = []
    for name, value, found in newest:
        ids = list(dict.fromkeys(one for one in found if one != case_id))
        more = len(ids) > _LINKED_CASES or len(found) == _LINKED_ROWS
        if ids:
            linked.append((name, value, ids[:_LINKED_CASES], more))
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


def history_of(connection: Connection, drawn: Drawn, *, limit: int = 500) -> list[HistoryPoint]:
    """Return the newest transactions of an account or at a merchant that are in cases.

    Args:
      connection: in a transaction.
      drawn: the account or merchant.
      limit: maximum of transactions.

    Returns:
      The transactions by event time.
    """
    kind, value = drawn
    given = {"value": value, "most": limit}
    rows = connection.execute(_points(f"{kind}_id"), given).all()
    points = [
        HistoryPoint(
            row.transaction_id,
            row.event_time,
            row.amount,
            row.score,
            row.flagged or SHOWN_DECISION,
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
