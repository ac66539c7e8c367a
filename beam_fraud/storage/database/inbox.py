"""The inbox of the review: flagged transactions until they are in cases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa
from sqlalchemy import Connection, select

from beam_fraud.storage.database.review_tables import REVIEW_INBOX
from beam_fraud.storage.database.tables import FLAGGED
from beam_fraud.storage.database.upsert import storable, values_of

#: Maximum of rows of the inbox that are read together.
_ROWS = 256


def announce(connection: Connection, transaction_ids: pa.Array) -> None:
    """Put flagged transactions into the inbox, in the transaction that writes them.

    Args:
      connection: in a write transaction.
      transaction_ids: n texts.
    """
    stored: Sequence[object] | pa.Array = transaction_ids
    if connection.dialect.name == "postgresql":
        # As they are in the table.
        stored = storable(FLAGGED.c.transaction_id, transaction_ids)
    ids = values_of(stored) if isinstance(stored, pa.Array) else stored
    if ids:
        text = msgspec.json.encode(ids).decode()
        connection.execute(REVIEW_INBOX.insert().values(transaction_ids=text))


@dataclass(frozen=True)
class Arrivals:
    """Part of the inbox, which others leave alone until the end of the transaction."""

    #: Ids of flagged transactions.
    transactions: list[str]
    #: Keys of rows of the inbox that hold them alone.
    numbers: tuple[int, ...]
    #: Key of a row that holds more, and what is left of it; None for none.
    rest: tuple[int, dict[str, str]] | None
    #: Whether more may be in the inbox.
    more: bool

    def done(self, connection: Connection) -> None:
        """Take them out of the inbox."""
        number = REVIEW_INBOX.c.number
        connection.execute(REVIEW_INBOX.delete().where(number.in_(self.numbers)))
        if self.rest is not None:
            at, left = self.rest
            connection.execute(REVIEW_INBOX.update().where(number == at).values(left))


def arrivals(connection: Connection, most: int) -> Arrivals:
    """Return the oldest part of the inbox.

    Args:
      connection: in a write transaction.
      most: maximum of transactions, at least 1.
    """
    found: list[str] = []
    numbers: list[int] = []
    for row in _oldest(connection):
        left = most - len(found)
        if left == 0:
            return Arrivals(found, tuple(numbers), None, True)
        if row.transaction_ids is None:
            ids = _after(connection, row.after, left)
            rest = {"after": ids[-1]} if len(ids) == left else None
        else:
            ids = msgspec.json.decode(row.transaction_ids, type=list[str])
            others, ids = ids[left:], ids[:left]
            rest = {"transaction_ids": msgspec.json.encode(others).decode()} if others else None
        found += ids
        if rest is not None:
            return Arrivals(found, tuple(numbers), (row.number, rest), True)
        numbers.append(row.number)
    return Arrivals(found, tuple(numbers), None, False)


def _oldest(connection: Connection) -> Iterator[Any]:
    """Yield rows of the inbox, read a few at a time: one row may hold thousands of ids."""
    number, many = 0, 1
    while True:
        query = select(REVIEW_INBOX).where(REVIEW_INBOX.c.number > number)
        query = query.order_by(REVIEW_INBOX.c.number).limit(many).with_for_update()
        rows = connection.execute(query).all()
        yield from rows
        if len(rows) < many:
            return
        number, many = rows[-1].number, min(2 * many, _ROWS)


def _after(connection: Connection, after: str, most: int) -> list[str]:
    key = FLAGGED.c.transaction_id
    query = select(key).where(key > after).distinct().order_by(key).limit(most)
    return list(connection.scalars(query))


def take_out(connection: Connection, transaction_ids: Iterable[str]) -> None:
    """Take transactions out of the inbox.

    Args:
      connection: in a write transaction.
      transaction_ids: the transactions.
    """
    gone = set(transaction_ids)
    if not gone:
        return
    for row in _oldest(connection):
        if row.transaction_ids is None:
            continue
        ids = msgspec.json.decode(row.transaction_ids, type=list[str])
        left = [one for one in ids if one not in gone]
        if len(left) < len(ids):
            text = msgspec.json.encode(left).decode()
            here = REVIEW_INBOX.c.number == row.number
            connection.execute(REVIEW_INBOX.update().where(here).values(transaction_ids=text))
