"""Connections that a server keeps."""

from __future__ import annotations

from pathlib import Path

from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, QueuePool

from beam_fraud.storage.database.connection import reading, sqlite_url, transaction, writing
from beam_fraud.storage.database.engines import engine, keep_connections
from tests.connections import close_connections


def test_a_kept_connection_leaves_a_replaced_file(tmp_path: Path) -> None:
    file, other = tmp_path / "a.db", tmp_path / "other.db"
    for path in (file, other):
        with writing(sqlite_url(path)) as connection:
            connection.exec_driver_sql("CREATE TABLE names (name)")
            connection.exec_driver_sql("INSERT INTO names VALUES (?)", (path.name,))
    url = sqlite_url(file)
    keep_connections(url, 2)

    def name() -> str:
        with transaction(url) as connection:
            return str(connection.exec_driver_sql("SELECT name FROM names").scalar_one())

    assert [name(), name()] == ["a.db", "a.db"]
    other.replace(file)
    assert name() == "other.db"
    close_connections(url)


def test_connections_are_kept(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "a.db")

    def connected() -> object:
        with transaction(url) as connection:
            return connection.connection.driver_connection

    assert connected() is not connected()
    keep_connections(url, 2)
    assert connected() is connected()
    close_connections(url)


def test_no_connection_is_left_from_before_they_are_kept(postgres_database: str) -> None:
    with transaction(postgres_database) as connection:
        connection.exec_driver_sql("SELECT 1")
    earlier = engine(postgres_database).pool
    assert isinstance(earlier, QueuePool)
    assert earlier.checkedin() == 1
    keep_connections(postgres_database, 2)
    assert earlier.checkedin() == 0


def test_a_connection_that_reads_begins_no_transaction(postgres_database: str) -> None:
    def status(connection: Connection) -> TransactionStatus:
        connection.exec_driver_sql("SELECT 1")
        driver = connection.connection.driver_connection
        assert driver is not None
        found: TransactionStatus = driver.info.transaction_status
        return found

    with reading(postgres_database) as connection:
        assert status(connection) == TransactionStatus.IDLE
    with transaction(postgres_database) as connection:
        assert status(connection) == TransactionStatus.INTRANS
    close_connections(postgres_database)
