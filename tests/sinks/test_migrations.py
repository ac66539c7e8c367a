"""Databases of earlier versions are migrated and keep their rows."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, select, text

from beam_fraud.errors import Code, FraudError
from beam_fraud.review.opening import open_cases
from beam_fraud.review.queue import Filters, counted_page
from beam_fraud.review.settings import ReviewSettings
from beam_fraud.sinks.database import DatabaseSink
from beam_fraud.storage.database import migrations
from beam_fraud.storage.database.connection import (
    check_database,
    prepare_database,
    sqlite_url,
    transaction,
    writing,
)
from beam_fraud.storage.database.migrations import migrate
from beam_fraud.storage.database.tables import (
    ALERTS,
    DELIVERIES,
    FLAGGED,
    LABELS,
    METADATA,
    VERSION,
    VERSION_TABLE,
)
from tests.failing import fails
from tests.flagged import flagged_batch

SENT = datetime(2024, 5, 2, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "flagged.db")
    return str(request.getfixturevalue("postgres_database"))


def make_first_version(url: str) -> None:
    """Create the tables of the first version, with two alerts, one of them sent."""
    with writing(url) as connection:
        migrate(connection, "0001")
        connection.exec_driver_sql(f"DROP TABLE {VERSION_TABLE}")
        for key, sent in (("sent", SENT), ("waiting", None)):
            connection.execute(
                text(
                    "INSERT INTO alerts VALUES (:key, :key, 'console', :at, 'a', 'm', 1.5, 0.9, "
                    "'review', '[]', '[]', 'm@1', :sent)"
                ),
                {"key": key, "at": SENT, "sent": sent},
            )
        connection.execute(
            text(
                "INSERT INTO flagged_transactions VALUES ('t', 'm@1', :at, 'a', 'm', 1.5, 0.9, "
                "'review', '[]', '[]')"
            ),
            {"at": SENT},
        )


def columns_by_position(url: str) -> list[str]:
    with transaction(url) as connection:
        return [column["name"] for column in inspect(connection).get_columns("alerts")]


def test_the_migrations_create_the_tables_of_the_program(url: str) -> None:
    prepare_database(url)
    with transaction(url) as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, METADATA) == []
        assert inspect(connection).get_view_names() == ["latest_labels"]


def test_this_version_is_the_last_migration() -> None:
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert scripts.get_current_head() == VERSION


def test_rows_of_an_earlier_version_stay(url: str) -> None:
    make_first_version(url)
    check_database(url)
    prepare_database(url)
    with transaction(url) as connection:
        assert connection.execute(select(FLAGGED.c.transaction_id)).scalars().all() == ["t"]
        alerts = connection.execute(select(ALERTS).order_by(ALERTS.c.alert_id)).all()
        deliveries = connection.execute(select(DELIVERIES)).all()
    assert [(a.alert_id, a.delivery_id, a.amount) for a in alerts] == [
        ("sent", "sent", 1.5),
        ("waiting", None, 1.5),
    ]
    [delivery] = deliveries
    assert (delivery.delivery_id, delivery.state, delivery.sent_at) == ("sent", "sent", SENT)
    assert (delivery.channel, delivery.kind, delivery.account_id) == ("console", "alerts", "a")


def test_an_earlier_version_comes_to_the_same_tables(url: str) -> None:
    make_first_version(url)
    prepare_database(url)
    with transaction(url) as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, METADATA) == []


def test_the_view_of_labels_has_the_columns_of_this_version(url: str) -> None:
    make_first_version(url)
    prepare_database(url)
    with transaction(url) as connection:
        columns = connection.execute(text("SELECT * FROM latest_labels")).keys()
    assert list(columns) == [column.name for column in LABELS.columns]


def test_preparing_again_changes_nothing(url: str) -> None:
    prepare_database(url)
    sink = DatabaseSink(url)
    sink.open("r").write(flagged_batch())
    prepare_database(url)
    with transaction(url) as connection:
        assert len(connection.execute(select(FLAGGED)).all()) == 3


def test_a_check_changes_nothing(url: str) -> None:
    make_first_version(url)
    before = columns_by_position(url)
    check_database(url)
    assert columns_by_position(url) == before
    with transaction(url) as connection:
        assert not inspect(connection).has_table(VERSION_TABLE)


def test_a_newer_version_is_refused_in_one_line(url: str) -> None:
    prepare_database(url)
    with writing(url) as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '0999'")
    for refuses in (check_database, prepare_database):
        with fails(Code.DATABASE_TABLES, f"0999.*{VERSION}"):
            refuses(url)


def test_many_start_at_once(url: str) -> None:
    make_first_version(url)
    errors: list[BaseException] = []
    start = threading.Barrier(6)

    def prepare() -> None:
        start.wait()
        try:
            prepare_database(url)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=prepare) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with transaction(url) as connection:
        assert len(connection.execute(select(DELIVERIES)).all()) == 1


def test_a_migration_that_fails_leaves_the_tables_as_they_were(url: str) -> None:
    make_first_version(url)
    before = columns_by_position(url)
    with writing(url) as connection:
        connection.exec_driver_sql("CREATE TABLE alerts_delivery (taken TEXT)")
    with pytest.raises(FraudError, match="alerts_delivery"):
        prepare_database(url)
    assert columns_by_position(url) == before
    with transaction(url) as connection:
        assert not inspect(connection).has_table("deliveries")


def test_flagged_rows_of_an_earlier_version_become_cases(url: str) -> None:
    with writing(url) as connection:
        migrate(connection, "0005")
        for n in range(7):
            connection.exec_driver_sql(
                "INSERT INTO flagged_transactions (transaction_id, model_id, event_time, "
                "account_id, amount, score, decision, rules, reasons) VALUES "
                f"('t{n}', 'm@1', '2024-05-01 00:00:00+00:00', 'a', 1, 0.5, 'review', '[]', '[]')"
            )
    prepare_database(url)
    while open_cases(url, ReviewSettings(), SENT, most=3).more:
        pass
    with transaction(url) as connection:
        [case] = counted_page(connection, Filters(), SENT)[0].cases
    assert case.transactions == 7
