"""Filters of the queue under a name, of a person or of all."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, bindparam, select

from beam_fraud.errors import Code, UsageError
from beam_fraud.review.errors import MissingError
from beam_fraud.review.queue import Filters, Sort
from beam_fraud.storage.database.review_tables import SAVED_VIEWS
from beam_fraud.storage.database.upsert import upsert

#: Each page of the queue asks for the views: the statement is made once.
_OF_PERSON = (
    select(SAVED_VIEWS)
    .where((SAVED_VIEWS.c.owner == "") | (SAVED_VIEWS.c.owner == bindparam("who")))
    .order_by(SAVED_VIEWS.c.name, SAVED_VIEWS.c.owner)
)
#: Maximum of characters of a name.
_LONGEST = 80


@dataclass(frozen=True)
class SavedView:
    """A view of the queue."""

    #: A user; empty for a view of all.
    owner: str
    name: str
    filters: Filters
    sort: Sort = "loss"


def views(connection: Connection, who: str) -> list[SavedView]:
    """Return the views of a person and those of all, by name."""
    return [
        SavedView(row.owner, row.name, msgspec.json.decode(row.filters, type=Filters), row.sort)
        for row in connection.execute(_OF_PERSON, {"who": who})
    ]


def save_view(connection: Connection, view: SavedView) -> None:
    """Save a view; one of the same owner and name is replaced.

    Raises:
      UsageError: the name is empty or too long.
    """
    if not view.name.strip() or len(view.name) > _LONGEST:
        raise UsageError(f"view: a name has 1 to {_LONGEST} characters", Code.REVIEW_VALUE)
    filters = msgspec.json.encode(view.filters).decode()
    upsert(connection, SAVED_VIEWS, [vars(view) | {"filters": filters}])


def delete_view(connection: Connection, owner: str, name: str) -> None:
    """Delete a view.

    Raises:
      MissingError: there is none.
    """
    table = SAVED_VIEWS.c
    done = connection.execute(SAVED_VIEWS.delete().where(table.owner == owner, table.name == name))
    if not done.rowcount:
        raise MissingError(f"view {name!r}: there is none")
