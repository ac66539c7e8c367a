"""Cases by ids that a person types."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, select

from beam_fraud.storage.database.review_tables import CASE_FACETS, CASE_TRANSACTIONS, CASES


def search(connection: Connection, text: str, most: int) -> set[str]:
    """Return the ids of cases by a transaction, or by how another id begins.

    Args:
      connection: in a transaction.
      text: the whole id of a transaction, or the beginning of that of a case, account or merchant.
      most: maximum of cases of each kind.
    """
    text = text.strip()
    if not text:
        return set()
    values = {"text": text, "end": text + "\U0010ffff", "limit": most}
    return {case_id for query in _SEARCHES for case_id in connection.scalars(query, values).all()}


def _begins(column: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return a condition that an index serves: ids sort by code points."""
    return and_(column >= bindparam("text"), column < bindparam("end"))


_SEARCHES = [
    query.limit(bindparam("limit"))
    for query in (
        select(CASE_TRANSACTIONS.c.case_id).where(
            CASE_TRANSACTIONS.c.transaction_id == bindparam("text")
        ),
        select(CASES.c.case_id).where(_begins(CASES.c.case_id)),
        select(CASES.c.case_id).where(_begins(CASES.c.account_id)),
        select(CASE_FACETS.c.case_id).where(
            CASE_FACETS.c.kind == "merchant", _begins(CASE_FACETS.c.value)
        ),
    )
]
