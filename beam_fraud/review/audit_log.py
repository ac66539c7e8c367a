"""The log of what people did, which nobody can change: each entry has the digest of the one before.

Triggers of the database refuse changes (`migrations/versions/version_0006.py`); `verify` finds
those of somebody who removed the triggers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, select
from sqlalchemy.engine import Row

from beam_fraud.errors import Code, FraudError
from beam_fraud.storage.chain import digest_of, follows, line_of
from beam_fraud.storage.database.review_tables import AUDIT_LOG

#: Key of PostgreSQL's advisory lock of those who append.
_LOCK = 0x6265616D6C6F67
#: Entries that are read together.
_PAGE = 10_000


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An action of a person. It names no account, merchant or transaction."""

    #: From 1 on, without gaps.
    number: int
    #: SHA-256 of the entry before, in hexadecimal; "" for the first.
    previous: str
    #: When, UTC.
    at: datetime
    #: Name of the user.
    who: str
    #: A word such as `decided` or `claimed`.
    action: str
    #: The case, if it is about one.
    case_id: str | None = None
    #: More about it: verdicts, counts, codes and ids of requests.
    detail: dict[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, row: Row[tuple[object, ...]]) -> Entry:
        """Return the entry of a row."""
        values = {name: getattr(row, name) for name in cls.__dataclass_fields__}
        return cls(**(values | {"detail": msgspec.json.decode(row.detail)}))


@dataclass(frozen=True)
class Deed:
    """An entry to append."""

    action: str
    case_id: str | None = None
    detail: Mapping[str, object] = field(default_factory=dict)


def append(
    connection: Connection,
    who: str,
    action: str,
    now: datetime,
    *,
    case_id: str | None = None,
    detail: Mapping[str, object] | None = None,
) -> None:
    """Append an entry, as `append_all` does."""
    append_all(connection, who, [Deed(action, case_id, detail or {})], now)


def append_all(connection: Connection, who: str, deeds: Sequence[Deed], now: datetime) -> None:
    """Append entries of one person.

    Call it last in a transaction: from here on until the end of it, other writers wait.

    Args:
      connection: in a write transaction.
      who: name of the user.
      deeds: in the order of the log.
      now: the current time, UTC.
    """
    if not deeds:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    head = connection.execute(_HEAD).first()
    number, digest = (head.number, head.digest) if head is not None else (0, "")
    rows = []
    for deed in deeds:
        number += 1
        entry = Entry(
            number=number,
            previous=digest,
            at=now,
            who=who,
            action=deed.action,
            case_id=deed.case_id,
            detail=dict(deed.detail),
        )
        digest = digest_of(line_of(entry))
        row = vars(entry) | {"detail": msgspec.json.encode(entry.detail).decode()}
        rows.append(row | {"digest": digest})
    connection.execute(AUDIT_LOG.insert(), rows)


_HEAD = select(AUDIT_LOG.c.number, AUDIT_LOG.c.digest).order_by(AUDIT_LOG.c.number.desc()).limit(1)


def entries(
    connection: Connection,
    *,
    before: int | None = None,
    limit: int = 100,
    who: str | None = None,
    case_id: str | None = None,
) -> list[Entry]:
    """Return the newest entries, the newest first.

    Args:
      connection: in a transaction.
      before: number of an entry: return those before it.
      limit: maximum of entries.
      who: a user; None for all.
      case_id: a case; None for all.
    """
    values = {"before": before, "who": who, "case_id": case_id}
    given = {name: value for name, value in values.items() if value is not None}
    rows = connection.execute(_newest(tuple(given)), given | {"limit": limit})
    return [Entry.of(row) for row in rows.all()]


@cache
def _newest(given: tuple[str, ...]) -> Select[*tuple[Any, ...]]:
    """Return the query of the newest entries that some values limit: it is made once."""
    table = AUDIT_LOG.c
    limits: dict[str, ColumnElement[bool]] = {
        "before": table.number < bindparam("before"),
        "who": table.who == bindparam("who"),
        "case_id": table.case_id == bindparam("case_id"),
    }
    query = select(AUDIT_LOG).where(*(limits[name] for name in given))
    return query.order_by(table.number.desc()).limit(bindparam("limit"))


def has_entry(connection: Connection, who: str, deed: Deed, now: datetime) -> bool:
    """Return whether a person did this at this time: a transaction whose end was unknown did it."""
    values = {"case_id": deed.case_id, "who": who, "action": deed.action, "at": now}
    return (
        connection.execute(_OF_NONE if deed.case_id is None else _OF_CASE, values).first()
        is not None
    )


def _one_of(case: ColumnElement[bool]) -> Select[int]:
    table = AUDIT_LOG.c
    query = select(table.number).where(
        case,
        table.who == bindparam("who"),
        table.action == bindparam("action"),
        table.at == bindparam("at"),
    )
    return query.limit(1)


_OF_CASE = _one_of(AUDIT_LOG.c.case_id == bindparam("case_id"))
_OF_NONE = _one_of(AUDIT_LOG.c.case_id.is_(None))


def verify(connection: Connection) -> int:
    """Check the chain of all entries.

    Returns:
      Their number.

    Raises:
      FraudError: an entry was changed, deleted or inserted.
    """
    number, digest = 0, ""
    while True:
        page = (
            select(AUDIT_LOG)
            .where(AUDIT_LOG.c.number > number)
            .order_by(AUDIT_LOG.c.number)
            .limit(_PAGE)
        )
        rows = connection.execute(page).all()
        if not rows:
            return number
        for row in rows:
            entry = Entry.of(row)
            line = digest_of(line_of(entry))
            if not follows(entry, number, digest) or row.digest != line:
                raise FraudError(
                    f"audit log: entry {number + 1} is missing or was changed; compare with a copy "
                    "of the database",
                    Code.AUDIT_LOG_BROKEN,
                )
            number, digest = entry.number, line
