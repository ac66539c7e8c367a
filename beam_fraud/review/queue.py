"""The queue: cases that pass filters, sorted, a page at a time."""

from __future__ import annotations

import base64
import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    func,
    literal,
    literal_column,
    or_,
    select,
    tuple_,
)

from beam_fraud.errors import Code, UsageError
from beam_fraud.review.kept_answers import KeptAnswers
from beam_fraud.review.search import search
from beam_fraud.storage.database.review_tables import CASE_FACETS, CASES
from beam_fraud.storage.database.upsert import is_utf8, one_of

Sort = Literal["loss", "age"]
#: `open`: neither closed nor snoozed; `free`: open without a valid claim.
State = Literal["open", "free", "claimed", "snoozed", "overdue", "closed", "all"]
#: Maximum of cases that meet a condition if all of them are read, and then sorted.
_RARE = 2_000
#: The same for a range in which cases are that come late in the order of the queue: not among the
#: first `_NEAR`.
_SORTED, _NEAR = 50_000, 5_000
#: Cases that are counted at most.
_COUNTED = 1_000
#: Seconds for which more than that stays the answer, as does how few meet a condition; and such
#: answers that are kept.
_KEPT_SECONDS, _REMEMBERED = 10.0, 1_000


@dataclass(frozen=True, kw_only=True)
class Filters:
    """A filter of cases: they match every field that is not None."""

    state: State = "open"
    account: str | None = None
    #: One of whose transactions was at this merchant.
    merchant: str | None = None
    #: One of whose transactions has fired this rule.
    rule: str | None = None
    model: str | None = None
    verdict: Literal["fraud", "genuine", "unsure", "mixed"] | None = None
    #: Sum of the amounts.
    amount_from: float | None = None
    amount_to: float | None = None
    #: Highest score.
    score_from: float | None = None
    score_to: float | None = None
    opened_from: datetime | None = None
    opened_to: datetime | None = None
    #: Empty for cases of nobody.
    assigned_to: str | None = None
    #: Who has a valid claim.
    claimed_by: str | None = None
    #: The whole id of a transaction, or the beginning of that of a case, account or merchant.
    search: str | None = None


class QueuedCase(NamedTuple):
    """A case as the queue shows it; a tuple, because a page makes fifty of them."""

    case_id: str
    account_id: str | None
    #: `open` or `closed`.
    state: str
    version: int
    opened_at: datetime
    due_at: datetime
    closed_at: datetime | None
    closed_by: str | None
    verdict: str | None
    #: Who has a valid claim.
    claimed_by: str | None
    claimed_until: datetime | None
    assigned_to: str | None
    snoozed_until: datetime | None
    remind_at: datetime | None
    earlier_case_id: str | None
    #: Number of transactions, and of those without a verdict.
    transactions: int
    undecided: int
    #: Sums over the transactions, of amounts and of score times amount.
    amount: float
    expected_loss: float
    max_score: float
    last_event_at: datetime

    def seconds_left(self, now: datetime) -> float:
        """Return the seconds to the due time; negative after it."""
        return (self.due_at - now).total_seconds()


_ID = CASES.c.case_id
#: The query of all cases, whose rows `queued_case` reads.
QUEUED = select(*(CASES.c[name] for name in QueuedCase._fields))
_WIDTH = len(QueuedCase._fields)
_BY_ID = QUEUED.where(one_of(_ID, "case_ids"))


@dataclass(frozen=True)
class Page:
    """A part of the queue."""

    cases: tuple[QueuedCase, ...]
    #: Cursor of the next page; None after the last.
    next: str | None


@dataclass(frozen=True)
class Count:
    """A number of cases."""

    number: int
    #: Whether there are more than that.
    more: bool


def counted_page(
    connection: Connection,
    filters: Filters,
    now: datetime,
    *,
    sort: Sort = "loss",
    after: str | None = None,
    limit: int = 50,
    most: int = _COUNTED,
) -> tuple[Page, Count]:
    """Return the cases that pass, the highest expected loss or the oldest first, and their number.

    Args:
      connection: in a transaction.
      filters: what passes.
      now: the current time, UTC.
      sort: `loss` or `age`.
      after: cursor of the page before; None for the first page.
      limit: maximum of cases.
      most: maximum of cases that are counted.

    Raises:
      UsageError: the cursor is of another sort or was changed.
    """
    values: _Values = {"limit": limit + 1}
    if after is not None:
        values["after_key"], values["after_id"] = _position(after, sort)
    cases: list[QueuedCase] = []
    number = 0
    for query in _queries(connection, filters, now, sort):
        rows = _first(connection, query, values)
        cases += [queued_case(row, now) for row in rows]
        if after is None and (len(rows) <= limit or query.shape.few):
            number += rows[0].among if rows and query.shape.few else len(rows)
        elif number <= most:
            number += _counted(connection, query, most + 1 - number)
    cases.sort(key=_loss if sort == "loss" else _age, reverse=sort == "loss")
    shown = tuple(cases[:limit])
    following = _cursor(shown[-1], sort) if len(cases) > limit else None
    return Page(shown, following), Count(min(number, most), number > most)


def _counted(connection: Connection, query: _Query, limit: int) -> int:
    """Return the number of cases, at most `limit`, which stays the answer for some seconds.

    Many people look at long queues, and to count a thousand cases takes as long as to show fifty.
    A smaller number is counted again for each page.
    """
    key = _key(query, connection, limit)
    if _are_many.get(key):
        return limit
    counted = query.values | {"limit": limit}
    number = connection.execute(_count_of(query.shape), counted).scalar_one()
    if number == limit:
        _are_many.keep(key, True)
    return number


#: Whether a query has as many cases as are counted at most.
_are_many = KeptAnswers[bool](_KEPT_SECONDS, _REMEMBERED)


def _key(query: _Query, connection: Connection, *more: Hashable) -> Hashable:
    """Return what tells a question about the cases of a query from others."""
    given = sorted((name, str(value)) for name, value in query.values.items() if name != "now")
    return connection.engine.url, query.shape, tuple(given), *more


def _loss(case: QueuedCase) -> tuple[float, str]:
    return case.expected_loss, case.case_id


def _age(case: QueuedCase) -> tuple[datetime, str]:
    return case.opened_at, case.case_id


def next_case(
    connection: Connection, filters: Filters, now: datetime, who: str, *, sort: Sort = "loss"
) -> QueuedCase | None:
    """Return the first case of the queue that nobody else works on, or None.

    Args:
      connection: in a transaction.
      filters: what passes.
      now: the current time, UTC.
      who: the person, whose own claims count as free.
      sort: of the queue.
    """
    open_ones = replace(filters, state="open" if filters.state == "all" else filters.state)
    for query in _queries(connection, open_ones, now, sort):
        shape = replace(query.shape, workable=True)
        for row in _first(connection, _Query(shape, query.values), {"who": who, "limit": 1}):
            return queued_case(row, now)
    return None


def queued_cases(
    connection: Connection, case_ids: Sequence[str], now: datetime
) -> list[QueuedCase]:
    """Return cases by id, in the order of the ids; those that do not exist are left out."""
    if not case_ids:
        return []
    rows = connection.execute(_BY_ID, {"case_ids": case_ids}).all()
    found = {row.case_id: queued_case(row, now) for row in rows}
    return [found[case_id] for case_id in case_ids if case_id in found]


def queued_case(row: Any, now: datetime) -> QueuedCase:
    """Return the case of a row, which may have more columns; an expired claim is none."""
    case = QueuedCase._make(row[:_WIDTH])
    if case.claimed_until is not None and case.claimed_until <= now:
        return case._replace(claimed_by=None, claimed_until=None)
    return case


_Values = dict[str, Any]
_Conditions = list[ColumnElement[bool]]
#: Conditions that an index other than those of the queue serves.
_Indexed = Literal[
    "snoozed_until",
    "claimed_until",
    "account",
    "assigned_to",
    "verdict",
    "due_at",
    "amount",
    "max_score",
    "opened_at",
    "merchant",
    "rule",
    "model",
]
#: Those that are a range of a column.
_RANGES = frozenset(("due_at", "amount", "max_score", "opened_at"))
#: Those that cases have as facets.
_FACETS = frozenset(("merchant", "rule", "model"))


@dataclass(frozen=True)
class _Shape:
    """All of a query but its values: a statement is composed once for each."""

    #: Of the filters.
    state: State
    sort: Sort
    #: Of the cases: an index has those of one state in the order of the queue.
    of: Literal["open", "closed"]
    indexed: frozenset[_Indexed]
    #: Limits of ranges that are given, such as `amount_from`.
    limits: frozenset[str]
    #: The condition that few cases meet, so that all those are read; None where the cases are read
    #: in the order of the queue, in which those that meet the conditions come soon.
    rare: _Indexed | None
    #: Whether the cases are those that a search has found.
    searched: bool
    #: Whether nobody must be assigned, and whether a person's claims alone pass.
    unassigned: bool
    own: bool
    #: Whether a person may claim the cases.
    workable: bool = False
    #: Whether the cases are among the first `near` of the queue.
    near: bool = False

    @property
    def few(self) -> bool:
        """Return whether few cases are read."""
        return self.searched or self.rare is not None


@dataclass(frozen=True)
class _Query:
    """Cases that pass."""

    shape: _Shape
    values: _Values


def _queries(
    connection: Connection, filters: Filters, now: datetime, sort: Sort
) -> Iterator[_Query]:
    """Yield the queries that together find the cases that pass."""
    texts = "".join(value for value in vars(filters).values() if isinstance(value, str))
    if "\0" in texts or not is_utf8(texts):
        # No id is stored like that, and PostgreSQL refuses the question.
        return
    given = {name: value for name, value in vars(filters).items() if value is not None}
    values: _Values = {**given, "now": now}
    if filters.search is not None:
        values["case_ids"] = sorted(search(connection, filters.search, _RARE))
        if not values["case_ids"]:
            return
    shape = _Shape(
        filters.state,
        sort,
        "open",
        frozenset(_indexed(filters)),
        frozenset(given) & _LIMITS,
        None,
        filters.search is not None,
        filters.assigned_to == "",
        filters.claimed_by is not None,
    )
    if not shape.searched:
        query = _Query(shape, values)
        shape = replace(shape, rare=_rarest(connection, query, shape.indexed, _RARE))
    for of in _states(filters.state):
        yield _Query(replace(shape, of=of), {**values, "of": of})


#: Names of filters that limit ranges, by column.
_LIMITED = {
    "due_at": (None, "now"),
    "amount": ("amount_from", "amount_to"),
    "max_score": ("score_from", "score_to"),
    "opened_at": ("opened_from", "opened_to"),
}
_LIMITS = frozenset(name for names in _LIMITED.values() for name in names if name is not None)


def _indexed(filters: Filters) -> Iterator[_Indexed]:
    """Yield the conditions that may be met by few cases."""
    if filters.state == "snoozed":
        yield "snoozed_until"
    if filters.state == "claimed" or filters.claimed_by is not None:
        yield "claimed_until"
    if filters.account is not None:
        yield "account"
    if filters.assigned_to:
        yield "assigned_to"
    if filters.verdict is not None:
        yield "verdict"
    if filters.state == "overdue":
        yield "due_at"
    if filters.amount_from is not None or filters.amount_to is not None:
        yield "amount"
    if filters.score_from is not None or filters.score_to is not None:
        yield "max_score"
    if filters.opened_from is not None or filters.opened_to is not None:
        yield "opened_at"
    if filters.merchant is not None:
        yield "merchant"
    if filters.rule is not None:
        yield "rule"
    if filters.model is not None:
        yield "model"


def _states(state: State) -> tuple[Literal["open", "closed"], ...]:
    """Return the states of cases that may pass."""
    if state == "all":
        return "open", "closed"
    return ("closed",) if state == "closed" else ("open",)


def _rarest(
    connection: Connection, query: _Query, names: frozenset[_Indexed], most: int
) -> _Indexed | None:
    """Return the condition that the fewest cases meet; None if more than `most` meet each.

    It stays the answer for some seconds: by another condition the same cases are found.
    """
    if not names:
        return None
    key = _key(query, connection, most)
    if (kept := _are_rarest.get(key)) is not None:
        return kept[0]
    rarest, fewest = None, most + 1
    for name in sorted(names):
        limited = query.values | {"limit": fewest}
        met = connection.execute(_met_by(query.shape, name), limited).scalar_one()
        if met < fewest:
            rarest, fewest = name, met
    _are_rarest.keep(key, (rarest,))
    return rarest


_are_rarest = KeptAnswers[tuple[_Indexed | None]](_KEPT_SECONDS, _REMEMBERED)
#: Whether cases come late in the order by loss.
_come_late = KeptAnswers[bool](_KEPT_SECONDS, _REMEMBERED)


def _first(connection: Connection, query: _Query, more: _Values) -> Sequence[Any]:
    """Return the rows of the first `limit` cases, or of those after a cursor, in any order."""
    shape, values = query.shape, query.values | more
    beyond, dialect = "after_key" in more, connection.dialect.name
    ranges = shape.indexed & _RANGES
    if ranges and not shape.few and shape.sort == "loss":
        # Low scores and amounts come late in this order: cases before them would all be read.
        late = _key(query, connection, values.get("after_key"))
        if not _come_late.get(late):
            near = _page_of(replace(shape, near=True), beyond, dialect, values["limit"])
            rows = connection.execute(near, values | {"near": _NEAR}).all()
            if len(rows) == values["limit"]:
                return rows
            _come_late.keep(late, True)
        shape = replace(shape, rare=_rarest(connection, query, ranges, _SORTED))
    counted = query.shape.few and not beyond
    page = _page_of(shape, beyond, dialect, values["limit"], counted=counted)
    return connection.execute(page, values).all()


@lru_cache(maxsize=256)
def _met_by(shape: _Shape, name: _Indexed) -> Select[int]:
    """Return the query of the number of cases that meet a condition, at most `limit`."""
    return _number(_ids_of(shape, name))


def _ids_of(shape: _Shape, name: _Indexed) -> Select[str]:
    if name in _FACETS:
        return select(CASE_FACETS.c.case_id).where(_of_facet(name))
    condition = _condition(shape, name, served=True)
    if name in _RANGES:
        states = [literal(state) for state in _states(shape.state)]
        return select(_ID).where(CASES.c.state.in_(states), condition)
    return select(_ID).where(condition)


def _number(ids: Select[str]) -> Select[int]:
    # Ids alone: an index has them.
    return select(func.count()).select_from(ids.limit(bindparam("limit")).subquery())


@lru_cache(maxsize=1024)
def _page_of(
    shape: _Shape, beyond: bool, dialect: str, most: int, *, counted: bool = False
) -> Select[*tuple[Any, ...]]:
    """Return the query of the first cases: of all, or beyond `after_key`, `after_id`.

    Args:
      shape: of the query.
      beyond: whether they follow a cursor.
      dialect: name of the database's.
      most: maximum of cases.
      counted: whether to return the number of all as `among`; few must be read.
    """
    key = CASES.c.expected_loss if shape.sort == "loss" else CASES.c.opened_at
    conditions, after = _conditions(shape, served=False), _Conditions()
    if beyond:
        here = tuple_(key, _ID)
        there = tuple_(
            bindparam("after_key", type_=key.type), bindparam("after_id", type_=_ID.type)
        )
        after.append(here < there if shape.sort == "loss" else here > there)
    if shape.workable:
        conditions.append(or_(~_claimed(), CASES.c.claimed_by == bindparam("who")))
    if shape.near:
        queue = select(key).where(CASES.c.state == bindparam("of"), *after).order_by(key.desc())
        last = queue.limit(1).offset(bindparam("near")).correlate(None).scalar_subquery()
        conditions.append(key >= func.coalesce(last, literal(-math.inf)))
    # Few are sorted: databases would read the whole queue for its order.
    by = func.coalesce(key, key) if shape.few else key
    # Both columns in one direction: an index serves it.
    order = (by, _ID) if shape.sort == "age" else (by.desc(), _ID.desc())
    # Not a parameter: PostgreSQL would plan each time, which takes as long as to find the cases.
    limit: ColumnElement[int] = literal_column(str(most))
    if dialect == "sqlite" and not shape.few:
        # It reads what an index does not have for these alone, by itself.
        return QUEUED.where(*conditions, *after).order_by(*order).limit(limit)
    first = select(_ID, key).where(*conditions, *after).order_by(*order).limit(limit)
    if counted:
        # All are read anyway, so the number of few costs nothing.
        first = first.add_columns(func.count().over().label("among"))
    found = first.subquery()
    # What an index does not have is read for these alone.
    query = QUEUED.join_from(found, CASES, CASES.c.case_id == found.c.case_id)
    return query.add_columns(found.c.among) if counted else query


@lru_cache(maxsize=1024)
def _count_of(shape: _Shape) -> Select[int]:
    """Return the query of the number of cases, at most `limit`."""
    facets = sorted(shape.indexed & _FACETS)
    if shape.few or not facets:
        return _number(select(_ID).where(*_conditions(shape, served=True)))
    # Case by case of a facet, which has the next one sooner than the queue.
    others = _conditions(replace(shape, indexed=shape.indexed - {facets[-1]}), served=True)
    one = select(literal(1)).where(CASE_FACETS.c.case_id == _ID, *others).limit(1)
    is_there = one.correlate(CASE_FACETS).scalar_subquery().is_not(None)
    return _number(select(CASE_FACETS.c.case_id).where(_of_facet(facets[-1]), is_there))


def _conditions(shape: _Shape, *, served: bool) -> _Conditions:
    """Return what cases meet.

    Args:
      shape: of the query.
      served: whether indexes may serve all conditions, as for cases in any order; otherwise they
        serve the rare one alone, and others are checked case by case in the order of the queue.
    """
    table = CASES.c
    by_state = not shape.few or shape.rare in _RANGES
    # SQLite would read all cases of the state for a few.
    state = table.state if by_state else func.coalesce(table.state, "")
    conditions: _Conditions = [state == bindparam("of")]
    if shape.searched:
        conditions.append(one_of(_ID, "case_ids"))
    for name in sorted(shape.indexed):
        rare = name == shape.rare
        if rare and name in _FACETS:
            conditions.append(_ID.in_(_ids_of(shape, name)))
        else:
            by_index = rare if shape.few else served
            conditions.append(_condition(shape, name, served=by_index))
    if shape.state in ("open", "free", "overdue"):
        snoozed = table.snoozed_until
        conditions.append(or_(snoozed.is_(None), snoozed <= bindparam("now")))
    if shape.state == "free":
        conditions.append(~_claimed())
    if shape.unassigned:
        conditions.append(table.assigned_to.is_(None))
    if shape.own:
        conditions.append(table.claimed_by == bindparam("claimed_by"))
    return conditions


def _condition(shape: _Shape, name: _Indexed, *, served: bool) -> ColumnElement[bool]:
    """Return a condition on cases, for an index that serves it or case by case."""
    table = CASES.c
    if name in _FACETS:
        return _has_facet(name)
    if name in _RANGES:
        column = table[name]
        # Not by its index where many cases meet it: that would read and sort them all.
        sorts = name == "opened_at" and shape.sort == "age"
        least, most = _LIMITED[name]
        of = column if served or sorts else func.coalesce(column, column)
        limits = shape.limits | {"now"}
        return and_(
            *(of >= bindparam(least) for _ in "." if least in limits),
            *(of <= bindparam(most) for _ in "." if most in limits),
        )
    if name in ("snoozed_until", "claimed_until"):
        return table[name] > bindparam("now")
    if name == "account":
        return table.account_id == bindparam("account")
    return table[name] == bindparam(name)


def _claimed() -> ColumnElement[bool]:
    until = CASES.c.claimed_until
    return and_(until.is_not(None), until > bindparam("now"))


def _of_facet(name: str) -> ColumnElement[bool]:
    return and_(CASE_FACETS.c.kind == name, CASE_FACETS.c.value == bindparam(name))


def _has_facet(name: str) -> ColumnElement[bool]:
    """Return a condition that databases check case by case, in the order of the queue.

    A join would read all cases of the facet and sort them.
    """
    one = select(literal(1)).where(_of_facet(name), CASE_FACETS.c.case_id == _ID)
    # Not EXISTS, which PostgreSQL turns into a join.
    return one.limit(1).scalar_subquery().is_not(None)


def _cursor(case: QueuedCase, sort: Sort) -> str:
    value = case.expected_loss if sort == "loss" else case.opened_at
    data = msgspec.json.encode([sort, value, case.case_id])
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _position(cursor: str, sort: Sort) -> tuple[float | datetime, str]:
    kind: Any = float if sort == "loss" else datetime
    try:
        data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        of, value, case_id = msgspec.json.decode(data, type=tuple[str, kind, str])
    except (ValueError, msgspec.DecodeError):
        of = None
    if of != sort:
        raise UsageError("queue: this page is not of this queue; begin again", Code.REVIEW_VALUE)
    return value, case_id
