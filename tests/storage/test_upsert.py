"""Writing rows by their keys, into SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text

from beam_fraud.errors import Code
from beam_fraud.storage.database.connection import prepare_database, transaction
from beam_fraud.storage.database.tables import LABELS
from beam_fraud.storage.database.upsert import upsert
from tests.failing import fails
from tests.flagged import START

#: Statements after which every update of a label fails.
_SEAL = {
    "sqlite": [
        "CREATE TRIGGER sealed BEFORE UPDATE ON labels "
        "BEGIN SELECT RAISE(ABORT, 'written again'); END"
    ],
    "postgresql": [
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN RAISE EXCEPTION ''written again''; END'",
        "CREATE TRIGGER sealed BEFORE UPDATE ON labels FOR EACH ROW EXECUTE FUNCTION refuse()",
    ],
}
_ROW: dict[str, Any] = {
    "transaction_id": "t",
    "labelled_by": "ann",
    "labelled_at": START,
    "account_id": "a",
    "merchant_id": None,
    "event_time": START,
    "label": 1,
    "reason": "",
    "probability": 0.1,
}


@pytest.fixture
def sealed(database: str) -> str:
    """A database with a label that nothing may update."""
    prepare_database(database)
    with transaction(database) as connection:
        upsert(connection, LABELS, [_ROW])
        for statement in _SEAL[connection.dialect.name]:
            connection.execute(text(statement))
    return database


def test_rows_that_are_there_are_not_written_again(sealed: str) -> None:
    with transaction(sealed) as connection:
        upsert(connection, LABELS, [_ROW, _ROW | {"transaction_id": "u"}])
        ids = connection.scalars(select(LABELS.c.transaction_id).order_by("transaction_id"))
        assert list(ids) == ["t", "u"]


@pytest.mark.parametrize(
    "change",
    [
        {"label": 0},
        {"account_id": None},
        {"merchant_id": ""},
        {"reason": None},
        {"probability": 0.1 + 1e-16},
        {"event_time": START + timedelta(microseconds=1)},
    ],
)
def test_a_change_of_any_column_is_written(sealed: str, change: dict[str, Any]) -> None:
    with fails(Code.DATABASE_REFUSED, "written again"), transaction(sealed) as connection:
        upsert(connection, LABELS, [_ROW | change])
