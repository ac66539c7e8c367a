"""The queue: cases that pass filters, sorted, a page at a time."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Literal

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, and_, func, literal, or_, select, tuple_

from beam_fraud.errors import Code, UsageError
from beam_fraud.storage.database.review_tables import CASE_FACETS, CASE_TRANSACTIONS, CASES
from beam_fraud.storage.database.upsert import in_values, is_utf8

Sort = Literal["loss", "age"]
#: `open`: neither closed nor snoozed; `free`: open without a valid claim.
State = Literal["open", "free", "claimed", "snoozed", "overdue", "closed", "all"]
#: Maximum of cases that meet a condition if their ids replace it.
_RARE = 2_000
#: Cases that are counted at most.
_COUNTED = 1_000


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What cases pass: those that match everything that is not None."""

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


@dataclass(frozen=True)
class QueuedCase:
    """A case as the queue shows it."""

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


_QUEUED = select(*(CASES.c[field.name] for field in fields(QueuedCase)))


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


def queue_page(
    connection: Connection,
    filters: Filters,
    now: datetime,
    *,
    sort: Sort = "loss",
    after: str | None = None,
    limit: int = 50,
) -> Page:
    """Return the cases that pass, the highest expected loss or the oldest first.

    Args:
      connection: in a transaction.
      filters: what passes.
      now: the current time, UTC.
      sort: `loss` or `age`.
      after: cursor of the page before; None for the first page.
      limit: maximum of cases.

    Raises:
      UsageError: the cursor is of another sort or was changed.
    """
    passing = _passing(connection, filters, now, sort)
    return _page(connection, _found(connection, passing, sort, after, limit), now, sort, limit)


def count_cases(
    connection: Connection, filters: Filters, now: datetime, *, most: int = _COUNTED
) -> Count:
    """Count the cases that pass, up to `most`."""
    return _count(connection, _passing(connection, filters, now, "age"), most)


def counted_page(
    connection: Connection,
    filters: Filters,
    now: datetime,
    *,
    sort: Sort = "loss",
    after: str | None = None,
    limit: int = 50,
) -> tuple[Page, Count]:
    """Return what `queue_page` and `count_cases` return, for little more than one of them."""
    passing = _passing(connection, filters, now, sort)
    found = _found(connection, passing, sort, after, limit)
    page = _page(connection, found, now, sort, limit)
    if after is None and all(one.few for one in passing):
        # These are all.
        return page, Count(min(len(found), _COUNTED), len(found) > _COUNTED)
    return page, _count(connection, passing, _COUNTED)


_Found = list[tuple[Any, str]]


def _found(
    connection: Connection, passing: Sequence[_Passing], sort: Sort, after: str | None, limit: int
) -> _Found:
    """Return sort keys and ids of cases in their order: more than `limit`, if there are more."""
    key = CASES.c.expected_loss if sort == "loss" else CASES.c.opened_at
    # Both columns in one direction: an index serves it.
    order = (key, CASES.c.case_id) if sort == "age" else (key.desc(), CASES.c.case_id.desc())
    beyond: list[ColumnElement[bool]] = []
    if after is not None:
        value, case_id = _position(after, sort)
        here = tuple_(key, CASES.c.case_id)
        there = tuple_(literal(value, key.type), literal(case_id, CASES.c.case_id.type))
        beyond.append(here < there if sort == "loss" else here > there)
    found: _Found = []
    for one in passing:
        query = select(key, CASES.c.case_id).where(*one.conditions, *beyond)
        if not one.few:
            query = query.order_by(*order).limit(limit + 1)
        found += connection.execute(query).tuples()
    found.sort(reverse=sort == "loss")
    return found


def _page(connection: Connection, found: _Found, now: datetime, sort: Sort, limit: int) -> Page:
    cases = queued_cases(connection, [case_id for _, case_id in found[:limit]], now)
    more = len(found) > limit
    return Page(tuple(cases), _cursor(cases[-1], sort) if more else None)


def _count(connection: Connection, passing: Sequence[_Passing], most: int) -> Count:
    number = 0
    for one in passing:
        # Ids alone: an index has them. The database counts them, and no more than are shown.
        some = one.unordered().limit(most + 1 - number).subquery()
        number += connection.execute(select(func.count()).select_from(some)).scalar_one()
    return Count(min(number, most), number > most)


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
    key = CASES.c.expected_loss.desc() if sort == "loss" else CASES.c.opened_at
    free = or_(~_claimed(now), CASES.c.claimed_by == who)
    for passing in _passing(connection, open_ones, now, sort):
        query = select(CASES.c.case_id).where(*passing.conditions, free).order_by(key).limit(1)
        cases = queued_cases(connection, list(connection.scalars(query)), now)
        if cases:
            return cases[0]
    return None


def queued_cases(
    connection: Connection, case_ids: Sequence[str], now: datetime
) -> list[QueuedCase]:
    """Return cases by id, in the order of the ids; those that do not exist are left out."""
    if not case_ids:
        return []
    here = in_values(connection, CASES.c.case_id, case_ids)
    rows = connection.execute(_QUEUED.where(here))
    found = {row.case_id: _queued(row, now) for row in rows}
    return [found[case_id] for case_id in case_ids if case_id in found]


def _queued(row: Any, now: datetime) -> QueuedCase:
    case = QueuedCase(*row)
    if case.claimed_until is not None and case.claimed_until <= now:
        return replace(case, claimed_by=None, claimed_until=None)
    return case


def _claimed(now: datetime) -> ColumnElement[bool]:
    return and_(CASES.c.claimed_until.is_not(None), CASES.c.claimed_until > now)


_Conditions = list[ColumnElement[bool]]


@dataclass(frozen=True)
class _Passing:
    """Cases that pass, as a query finds them."""

    #: Conditions on cases, for the order of the queue; and for any order.
    conditions: _Conditions
    unsorted: _Conditions
    #: Whether they are so few that the query needs no order and no limit.
    few: bool
    #: A facet that many cases have, and the conditions without it; or None.
    facet: tuple[ColumnElement[bool], _Conditions] | None

    def unordered(self) -> Select[str]:
        """Return the query of their ids in any order."""
        if self.facet is None or self.few:
            return select(CASES.c.case_id).where(*self.unsorted)
        # Case by case of the facet, which has the next one sooner than the queue.
        of_facet, others = self.facet
        one = select(literal(1)).where(CASES.c.case_id == CASE_FACETS.c.case_id, *others).limit(1)
        is_there = one.correlate(CASE_FACETS).scalar_subquery().is_not(None)
        return select(CASE_FACETS.c.case_id).where(of_facet, is_there)


def _passing(connection: Connection, filters: Filters, now: datetime, sort: Sort) -> list[_Passing]:
    """Return the queries that together find the cases that pass.

    A condition that few cases meet is replaced by their ids. Others are checked case by case, in
    the order of the queue, where cases that meet them come soon.
    """
    texts = "".join(value for value in vars(filters).values() if isinstance(value, str))
    if "\0" in texts or not is_utf8(texts):
        # No id is stored like that, and PostgreSQL refuses the question.
        return []
    conditions: _Conditions = []
    unsorted: _Conditions = []
    chosen: set[str] | None = None
    facet: _Indexed | None = None
    for one in _indexed(filters, now, sort):
        some = one.ids().limit(_RARE + 1)
        number = select(func.count()).select_from(some.subquery())
        if connection.execute(number).scalar_one() > _RARE:
            conditions.append(one.condition)
            unsorted.append(one.condition if one.served is None else one.served)
            facet = one if one.facet is not None else facet
        else:
            cases = set(connection.scalars(some))
            chosen = cases if chosen is None else chosen & cases
    if filters.search is not None:
        matches = _search(connection, filters.search)
        chosen = matches if chosen is None else chosen & matches
    if chosen is not None:
        if not chosen:
            return []
        of_chosen = in_values(connection, CASES.c.case_id, sorted(chosen))
        conditions, unsorted = [*conditions, of_chosen], [*unsorted, of_chosen]
    others = _others(filters, now)
    conditions, unsorted = [*conditions, *others], [*unsorted, *others]
    # By one state at a time: an index has its cases in the order of the queue.
    found: list[_Passing] = []
    for state in _states(filters):
        # SQLite would read all cases of the state for a few ids.
        column = CASES.c.state if chosen is None else func.coalesce(CASES.c.state, "")
        of_state = [column == state, *conditions]
        of_facet = None
        if facet is not None and facet.facet is not None:
            of_facet = facet.facet, [one for one in of_state if one is not facet.condition]
        found.append(_Passing(of_state, [column == state, *unsorted], chosen is not None, of_facet))
    return found


@dataclass(frozen=True)
class _Indexed:
    """A condition that an index other than those of the queue serves."""

    #: On cases, one after the other.
    condition: ColumnElement[bool]
    #: The same for the index; None for `condition`.
    served: ColumnElement[bool] | None = None
    #: The same on facets, if it is about one.
    facet: ColumnElement[bool] | None = None

    def ids(self) -> Select[str]:
        """Return the query of the cases that meet it."""
        if self.facet is not None:
            return select(CASE_FACETS.c.case_id).where(self.facet)
        served = self.condition if self.served is None else self.served
        return select(CASES.c.case_id).where(served)


def _indexed(filters: Filters, now: datetime, sort: Sort) -> Iterator[_Indexed]:
    """Yield the conditions that may be met by few cases."""
    table = CASES.c
    own: _Conditions = []
    if filters.state == "snoozed":
        own.append(table.snoozed_until > now)
    if filters.state == "claimed" or filters.claimed_by is not None:
        own.append(table.claimed_until > now)
    if filters.account is not None:
        own.append(table.account_id == filters.account)
    if filters.assigned_to:
        own.append(table.assigned_to == filters.assigned_to)
    if filters.verdict is not None:
        own.append(table.verdict == filters.verdict)
    yield from map(_Indexed, own)
    late = now if filters.state == "overdue" else None
    for column, least, most in (
        (table.due_at, None, late),
        (table.amount, filters.amount_from, filters.amount_to),
        (table.max_score, filters.score_from, filters.score_to),
        (table.opened_at, filters.opened_from, filters.opened_to),
    ):
        if least is not None or most is not None:
            served = and_(table.state.in_(_states(filters)), *_between(column, least, most))
            # Not by that index where many cases meet it: it would read and sort them all.
            sorts = column is table.opened_at and sort == "age"
            case_by_case = column if sorts else func.coalesce(column, column)
            yield _Indexed(and_(*_between(case_by_case, least, most)), served)
    facets = {"merchant": filters.merchant, "rule": filters.rule, "model": filters.model}
    for kind, value in facets.items():
        if value is not None:
            facet = CASE_FACETS.c
            of_facet = and_(facet.kind == kind, facet.value == value)
            yield _Indexed(_has_facet(kind, value), facet=of_facet)


def _states(filters: Filters) -> tuple[str, ...]:
    """Return the states of cases that may pass."""
    if filters.state == "all":
        return "open", "closed"
    return ("closed",) if filters.state == "closed" else ("open",)


def _between(column: ColumnElement[Any], least: object, most: object) -> _Conditions:
    conditions: _Conditions = []
    if least is not None:
        conditions.append(column >= least)
    if most is not None:
        conditions.append(column <= most)
    return conditions


def _others(filters: Filters, now: datetime) -> _Conditions:
    """Return the conditions that are checked case by case; the indexes of the queue have most."""
    table = CASES.c
    conditions: _Conditions = []
    if filters.state in ("open", "free", "overdue"):
        conditions.append(or_(table.snoozed_until.is_(None), table.snoozed_until <= now))
    if filters.state == "free":
        conditions.append(~_claimed(now))
    if filters.assigned_to == "":
        conditions.append(table.assigned_to.is_(None))
    if filters.claimed_by is not None:
        conditions.append(table.claimed_by == filters.claimed_by)
    return conditions


def _has_facet(kind: str, value: str) -> ColumnElement[bool]:
    """Return a condition that databases check case by case, in the order of the queue.

    A join would read all cases of the facet and sort them.
    """
    table = CASE_FACETS.c
    one = select(literal(1)).where(
        table.kind == kind, table.value == value, table.case_id == CASES.c.case_id
    )
    # Not EXISTS, which PostgreSQL turns into a join.
    return one.limit(1).scalar_subquery().is_not(None)


def _search(connection: Connection, text: str) -> set[str]:
    """Return cases by ids: at most `_RARE` of each kind."""
    text = text.strip()
    if not text:
        return set()
    facets = CASE_FACETS.c
    queries = [
        select(CASE_TRANSACTIONS.c.case_id).where(CASE_TRANSACTIONS.c.transaction_id == text),
        select(CASES.c.case_id).where(_begins(CASES.c.case_id, text)),
        select(CASES.c.case_id).where(_begins(CASES.c.account_id, text)),
        select(facets.case_id).where(facets.kind == "merchant", _begins(facets.value, text)),
    ]
    return {case_id for query in queries for case_id in connection.scalars(query.limit(_RARE))}


def _begins(column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    """Return a condition that an index serves: ids sort by code points."""
    return and_(column >= text, column < text + "\U0010ffff")


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
