"""The log cannot be changed, and shows it where somebody did."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from beam_fraud.errors import Code, FraudError
from beam_fraud.review.audit_log import append, entries, verify
from beam_fraud.storage.database.connection import prepare_database, writing
from tests.failing import fails
from tests.reviewing import NOW, do, read


@pytest.fixture
def filled(database: str) -> str:
    """A log of five entries."""
    prepare_database(database)
    for n in range(5):
        detail = {"n": n, "text": "ünï"}
        do(database, append, f"p{n % 2}", "did", NOW, case_id=f"c{n}", detail=detail)
    return database


def test_entries_form_a_chain(filled: str) -> None:
    newest = read(filled, entries)
    assert [one.number for one in newest] == [5, 4, 3, 2, 1]
    assert newest[-1].previous == ""
    assert newest[0].detail == {"n": 4, "text": "ünï"}
    assert read(filled, verify) == 5
    assert [one.number for one in read(filled, entries, who="p1")] == [4, 2]
    assert [one.number for one in read(filled, entries, before=3, limit=1)] == [2]
    assert [one.number for one in read(filled, entries, case_id="c0")] == [1]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_log SET who = 'nobody'",
        "UPDATE audit_log SET who = 'nobody' WHERE number = 3",
        "DELETE FROM audit_log WHERE number = 5",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "INSERT INTO audit_log SELECT * FROM audit_log ON CONFLICT (number) DO UPDATE SET who = ''",
        "INSERT OR REPLACE INTO audit_log SELECT 5, at, 'x', action, case_id, detail, previous, "
        "digest FROM audit_log WHERE number = 5",
    ],
)
def test_the_database_refuses_every_change(filled: str, change: str) -> None:
    before = read(filled, entries)
    with pytest.raises(FraudError), writing(filled) as connection:
        connection.execute(text(change))
    assert read(filled, entries) == before


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_log SET who = 'nobody' WHERE number = 3",
        "UPDATE audit_log SET detail = '{}' WHERE number = 5",
        "DELETE FROM audit_log WHERE number = 2",
        "DELETE FROM audit_log WHERE number = 1",
        "UPDATE audit_log SET number = 9 WHERE number = 5",
    ],
)
def test_a_change_by_who_removed_the_triggers_is_found(filled: str, change: str) -> None:
    with writing(filled) as connection:
        if connection.dialect.name == "sqlite":
            for kind in ("update", "delete", "insert"):
                connection.exec_driver_sql(f"DROP TRIGGER audit_log_no_{kind}")
        else:
            connection.exec_driver_sql("DROP TRIGGER audit_log_unchanged ON audit_log")
        connection.exec_driver_sql(change)
    with fails(Code.AUDIT_LOG_BROKEN, "audit log"):
        read(filled, verify)
