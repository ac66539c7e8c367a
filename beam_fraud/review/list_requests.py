"""Entries of lists that people ask for, with a second person's approval if that is configured."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Select, bindparam, select

from beam_fraud.decisions.lists.changes import MAX_LENGTH, Change, append_changes
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.review.errors import ConflictError, MissingError
from beam_fraud.review.held_case import Work
from beam_fraud.review.queue import QueuedCase
from beam_fraud.review.settings import Action, ReviewSettings, Subject
from beam_fraud.storage.database.connection import transaction
from beam_fraud.storage.database.retry import persistently
from beam_fraud.storage.database.review_tables import LIST_REQUESTS
from beam_fraud.storage.database.upsert import is_utf8

RequestState = Literal["waiting", "approved", "applied", "refused", "failed"]
#: Requests that are applied together.
_TOGETHER = 500


@dataclass(frozen=True)
class ListRequest:
    """An entry that a person asks for."""

    request_id: str
    case_id: str | None
    kind: Subject
    #: The account or merchant.
    value: str
    action: Action
    #: Name of the list.
    list: str
    #: When the entry ends; None for never.
    until: datetime | None
    #: Why; untrusted text.
    reason: str
    asked_by: str
    asked_at: datetime
    state: RequestState
    decided_by: str | None
    decided_at: datetime | None
    #: When it was written to the list.
    applied_at: datetime | None
    #: Why it failed.
    error: str | None


_COLUMNS = [LIST_REQUESTS.c[field.name] for field in fields(ListRequest)]


@dataclass(frozen=True)
class ListEntry:
    """A requested entry of a list."""

    kind: Subject
    #: The account or merchant.
    value: str
    action: Action
    #: Why.
    reason: str
    #: When the entry ends; None for never.
    until: datetime | None = None

    def check(self, now: datetime) -> None:
        """Check that a list can have it.

        Raises:
          UsageError: the value, the reason or the end cannot be used.
        """
        for text in (self.value, self.reason):
            if not text.strip() or len(text) > MAX_LENGTH or "\0" in text or not is_utf8(text):
                raise UsageError(
                    f"list entry: id and reason need 1 to {MAX_LENGTH:,} characters",
                    Code.REVIEW_VALUE,
                )
        if self.until is not None and self.until <= now:
            raise UsageError(
                f"list entry until {self.until.isoformat()}: is over", Code.REVIEW_VALUE
            )


def ask(
    connection: Connection,
    settings: ReviewSettings,
    who: str,
    entry: ListEntry,
    now: datetime,
    *,
    case_id: str | None = None,
) -> ListRequest:
    """Ask for an entry in a list. It is approved at once if no second person is needed.

    Call `apply_requests` after the commit; the sweep repeats it.

    Args:
      connection: in a write transaction.
      settings: of the review.
      who: the person.
      entry: the entry.
      now: the current time, UTC.
      case_id: the case that it is about.

    Raises:
      MissingError: there is no such case.
      UsageError: the value, the reason or the end cannot be used.
    """
    entry.check(now)
    work = Work(connection, settings, who, now)
    case = None if case_id is None else work.hold(case_id, force=True)
    alone = entry.action not in settings.second_person
    # A transaction that is repeated asks once.
    name = "\0".join((who, entry.kind, entry.value, entry.action, now.isoformat()))
    request = ListRequest(
        request_id=uuid.uuid5(_NAMESPACE, name).hex,
        case_id=case_id,
        kind=entry.kind,
        value=entry.value,
        action=entry.action,
        list=settings.lists[entry.kind, entry.action],
        until=entry.until,
        reason=entry.reason,
        asked_by=who,
        asked_at=now,
        state="approved" if alone else "waiting",
        decided_by=who if alone else None,
        decided_at=now if alone else None,
        applied_at=None,
        error=None,
    )
    there = select(LIST_REQUESTS.c.request_id).where(
        LIST_REQUESTS.c.request_id == request.request_id
    )
    if connection.scalar(there) is None:
        connection.execute(LIST_REQUESTS.insert().values(**vars(request)))
        _note(work, f"{entry.action}_asked", case, request)
        work.finish()
    return request


_NAMESPACE = uuid.UUID("6f1d0f0e-5a0b-4a53-9c4e-2f7a3c1b9d10")


def approve(
    connection: Connection, settings: ReviewSettings, request_id: str, who: str, now: datetime
) -> ListRequest:
    """Approve another person's request.

    Raises:
      MissingError: there is no such request.
      ConflictError: it does not wait, or is one's own.
    """
    return _settle(connection, settings, request_id, who, now, "approved")


def refuse(
    connection: Connection, settings: ReviewSettings, request_id: str, who: str, now: datetime
) -> ListRequest:
    """Refuse a request, or take back one's own.

    Raises:
      MissingError: there is no such request.
      ConflictError: it does not wait.
    """
    return _settle(connection, settings, request_id, who, now, "refused")


def _settle(
    connection: Connection,
    settings: ReviewSettings,
    request_id: str,
    who: str,
    now: datetime,
    state: Literal["approved", "refused"],
) -> ListRequest:
    named = LIST_REQUESTS.c.request_id == request_id
    row = connection.execute(select(*_COLUMNS).where(named).with_for_update()).first()
    if row is None:
        raise MissingError(f"list request {request_id}: there is none, or it was erased")
    request = ListRequest(*row)
    if (request.state, request.decided_by, request.decided_at) == (state, who, now):
        return request
    if request.state != "waiting":
        raise ConflictError(f"list request {request_id}: it is {request.state} already")
    if state == "approved" and request.asked_by == who:
        raise ConflictError(f"list request {request_id}: another person has to approve it")
    changes: dict[str, Any] = {"state": state, "decided_by": who, "decided_at": now}
    connection.execute(LIST_REQUESTS.update().where(named).values(**changes))
    work = Work(connection, settings, who, now)
    _note(work, f"{request.action}_{state}", None, request)
    work.finish()
    return ListRequest(**(vars(request) | changes))


def _note(work: Work, action: str, case: QueuedCase | None, request: ListRequest) -> None:
    detail = {"request_id": request.request_id, "list": request.list}
    subject: Mapping[str, str] = {f"{request.kind}_id": request.value}
    work.note(
        action,
        case,
        detail,
        account_id=subject.get("account_id"),
        merchant_id=subject.get("merchant_id"),
    )


def requests(
    connection: Connection,
    *,
    state: RequestState | None = None,
    case_id: str | None = None,
    limit: int = 100,
) -> list[ListRequest]:
    """Return requests, the newest first.

    Args:
      connection: in a transaction.
      state: of the requests; None for all.
      case_id: a case; None for all.
      limit: maximum of requests.
    """
    values = {"state": state, "case_id": case_id}
    given = {name: value for name, value in values.items() if value is not None}
    rows = connection.execute(_newest(tuple(given)), {**given, "limit": limit})
    return [ListRequest(*row) for row in rows.all()]


@cache
def _newest(given: tuple[str, ...]) -> Select[*tuple[Any, ...]]:
    """Return the query of the newest requests that some values limit: it is made once."""
    table = LIST_REQUESTS.c
    query = select(*_COLUMNS).where(*(table[name] == bindparam(name) for name in given))
    newest = query.order_by(table.asked_at.desc(), table.request_id)
    return newest.limit(bindparam("limit"))


def apply_requests(url: str, lists: Path) -> int:
    """Write the approved requests to the files of their lists; streams and servers follow those.

    A request that was written by a process which was killed before it noted that is written again,
    which changes nothing.

    Args:
      url: a prepared database.
      lists: the directory of the lists.

    Returns:
      Number of requests written.

    Raises:
      FraudError: the database fails or cannot be reached.
    """
    table = LIST_REQUESTS.c
    query = select(*_COLUMNS).where(table.state == "approved")
    query = query.order_by(table.asked_at, table.request_id).limit(_TOGETHER)
    with transaction(url) as connection:
        waiting = [ListRequest(*row) for row in connection.execute(query)]
    written = 0
    for request in waiting:
        change = Change(
            request.value,
            "add",
            datetime.now(UTC),
            request.asked_by,
            request.until,
            request.reason,
        )
        try:
            append_changes(lists, request.list, [change])
        except FraudError as error:
            # The list comes from elsewhere, or its name is wrong; all else may pass.
            failed = error.code is Code.LIST_INVALID
            _note_outcome(url, request, "failed" if failed else "approved", str(error))
        else:
            written += 1
            _note_outcome(url, request, "applied", None)
    return written


def _note_outcome(url: str, request: ListRequest, state: RequestState, error: str | None) -> None:
    table = LIST_REQUESTS.c
    change = (
        LIST_REQUESTS.update()
        .where(table.request_id == request.request_id, table.state == "approved")
        .values(
            state=state,
            applied_at=datetime.now(UTC) if state == "applied" else None,
            error=error,
        )
    )
    persistently(url, lambda connection: connection.execute(change))
