"""PostgreSQL as a sink: connections, logins and stored values."""

from __future__ import annotations

import logging
import pickle
import sys
from pathlib import Path

import pytest
import trustme
from psycopg.adapt import PyFormat
from psycopg.pq import Format
from sqlalchemy import select, text
from sqlalchemy.engine import make_url

from beam_fraud.alerts.alert import Alert
from beam_fraud.errors import Code, FraudError
from beam_fraud.sinks.database import DatabaseSink
from beam_fraud.sinks.url import parse_sink
from beam_fraud.storage.database import engines
from beam_fraud.storage.database.connection import (
    check_database,
    masked,
    prepare_database,
    transaction,
)
from beam_fraud.storage.database.tables import ALERTS, FLAGGED
from deploy.postgres.server import Server
from tests.failing import fails
from tests.flagged import flagged_batch
from tests.requirements import postgres_home


def keys(url: str) -> list[str]:
    with transaction(url) as connection:
        query = select(FLAGGED.c.transaction_id).order_by(FLAGGED.c.transaction_id)
        return list(connection.execute(query).scalars())


def database_sink(url: str) -> DatabaseSink:
    sink = parse_sink(url)
    assert isinstance(sink, DatabaseSink)
    return sink


def write(sink: DatabaseSink, *ids: str) -> None:
    sink.check()
    sink.begin("r")
    unpickled = pickle.loads(pickle.dumps(sink))
    writer = unpickled.open("r")
    writer.write(flagged_batch(list(ids)))
    writer.close()
    sink.commit("r")


@pytest.fixture
def database(postgres_database: str) -> str:
    """The URL of an empty database, with the password."""
    return postgres_database


@pytest.fixture
def password(database: str) -> str:
    return str(make_url(database).password)


@pytest.fixture
def bare(database: str, password: str) -> str:
    """The URL without the password."""
    return database.replace(f":{password}@", "@")


def test_the_password_comes_from_the_place_in_the_url(
    bare: str, password: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    file.write_text(password + "\n")
    monkeypatch.setenv("OF_THE_TEAM", password)
    monkeypatch.setenv("THE_URL", bare.replace("fraud@", f"fraud:{password}@"))
    ways = [f"{bare}?password_file={file}", f"{bare}?password_env=OF_THE_TEAM", "env:THE_URL"]
    for number, url in enumerate(ways):
        sink = database_sink(url)
        assert password not in str(pickle.dumps(sink)), "workers look it up themselves"
        write(sink, f"t{number}")
        assert password not in sink.describe() + repr(sink)
    monkeypatch.setenv("BEAM_FRAUD_DATABASE_PASSWORD", password)
    write(database_sink(bare), "t3")
    assert keys(bare) == ["t0", "t1", "t2", "t3"]


def test_options_of_libpq_reach_it(bare: str, password: str) -> None:
    url = f"{bare}?application_name=cards&password={password}&connect_timeout=3"
    sink = database_sink(url)
    write(sink, "t")
    with transaction(sink.url) as connection:
        assert connection.scalar(text("SHOW application_name")) == "cards"
    assert password not in sink.describe() + repr(sink)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda url: url.replace("fraud:", "fraud:not"), "password authentication failed"),
        (lambda url: url.replace("fraud:", "nobody:"), "nobody"),
        (lambda url: url + "_no", "does not exist"),
        (lambda url: url + "?sslmode=require", "SSL"),
        (lambda url: url + "?no_such_option=1", "no_such_option"),
        (lambda url: url + "?password_env=NOT_SET_AT_ALL", "NOT_SET_AT_ALL is not set"),
        (lambda url: url + "?options=-csearch_path%3Dnowhere", "no schema of its search_path"),
    ],
)
def test_permanent_failures_are_one_line_without_the_password(
    database: str, password: str, change, message: str
) -> None:
    url = change(database)
    if "password_env" in url:
        url = url.replace(f":{password}", "")
    sink = database_sink(url)
    for refuses in (sink.check, lambda: sink.open("r").write(flagged_batch())):
        if "search_path" in url and refuses != sink.check:
            continue
        with pytest.raises(FraudError) as refused:
            refuses()
        assert message in str(refused.value)
        assert "\n" not in str(refused.value)
        assert password not in str(refused.value)
        assert refused.type is FraudError, "no reason that passes"


def test_a_user_without_rights_is_told_which(postgres: Server, database: str) -> None:
    name = str(make_url(database).database)
    user = f"user_{name[5:13]}"
    postgres.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'short'")
    theirs = database.replace(f"fraud:{postgres.password}", f"{user}:short")
    with fails(Code.DATABASE_RIGHTS, "schema 'public'; grant CREATE"):
        check_database(theirs)
    prepare_database(database)
    with fails(Code.DATABASE_RIGHTS, "table '.*'; grant SELECT, INSERT"):
        check_database(theirs)
    postgres.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {user}", name)
    write(database_sink(theirs), "t")
    assert keys(database) == ["t"]


def test_a_read_only_server_is_refused(postgres: Server, database: str) -> None:
    name = make_url(database).database
    postgres.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    with fails(Code.DATABASE_RIGHTS, "primary"):
        check_database(database)


def test_tables_may_be_in_a_schema_of_their_own(postgres: Server, database: str) -> None:
    name = str(make_url(database).database)
    postgres.execute("CREATE SCHEMA cards", name)
    postgres.execute("CREATE TABLE public.runs (x int)", name)
    url = database + "?options=-csearch_path%3Dcards"
    write(database_sink(url), "t")
    assert postgres.execute("SELECT transaction_id FROM cards.flagged_transactions", name) == [
        ("t",)
    ]


def test_names_that_postgresql_cannot_store_are_escaped(database: str) -> None:
    sink = database_sink(database)
    long = [letter + "x" * 9_000 + end for letter in "ab" for end in "cd"]
    ids = ["nul\0id", *long, "ordinary"]
    sink.begin("r")
    writer = sink.open("r")
    for _ in range(2):
        writer.write(flagged_batch(ids, account="acc\0ount" + "y" * 5_000), ["console"])
    writer.close()
    stored = keys(sink.url)
    assert len(stored) == len(ids)
    assert {"nul\\x00id", "ordinary"} <= set(stored)
    with transaction(sink.url) as connection:
        assert len(connection.execute(select(ALERTS)).all()) == len(ids)


def test_an_alert_is_queued_with_its_row(database: str) -> None:
    sink = database_sink(database)
    sink.begin("r")
    sink.open("r").write(flagged_batch(["t"]), ["console", "file:x"])
    with transaction(sink.url) as connection:
        query = select(ALERTS).where(ALERTS.c.channel == "console")
        [alert] = [Alert.from_row(row._asdict()) for row in connection.execute(query)]
    assert (alert.transaction_id, alert.rules) == ("t", ("large", "ünusual"))
    assert alert.reasons[0].feature == "V14"


def test_without_the_driver_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    engines._engine.cache_clear()
    with fails(Code.EXTRA_MISSING, r"pip install 'beam-fraud\[postgres\]'"):
        database_sink("postgresql://fraud:hunter2@localhost/x").check()


def test_a_password_with_a_sign_of_urls_is_not_shown() -> None:
    with fails(Code.SINK_URL, "%40 for @") as refused:
        parse_sink("postgresql://fraud:hun@ter2@localhost/x")
    assert "ter2" not in str(refused.value)
    with pytest.raises(FraudError) as refused:
        parse_sink("postgresql://fraud:hunter2@localhost:port/x")
    assert "hunter2" not in str(refused.value)


def test_connections_are_kept_between_transactions(database: str) -> None:
    prepare_database(database)

    def backend() -> int:
        with transaction(database) as connection:
            return int(connection.scalar(text("SELECT pg_backend_pid()")) or 0)

    assert backend() == backend()


def test_arrays_travel_as_binary(database: str) -> None:
    # As text they take ten times as long.
    with transaction(database) as connection:
        driver = connection.connection.driver_connection
        dumper = driver.adapters.get_dumper(list, PyFormat.AUTO)
    assert dumper.format is Format.BINARY


def test_no_message_of_sqlalchemy_shows_rows(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sink = database_sink(database)
    write(sink, "t-4711")
    assert "t-4711" not in caplog.text
    assert masked(database) in repr(sink)


@pytest.fixture
def certificates(tmp_path: Path) -> tuple[Path, tuple[Path, Path], Path]:
    """Certificates of an authority, of the server with its key, and of another server."""
    authority, other = trustme.CA(), trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    paths = [tmp_path / name for name in ("ca.pem", "server.pem", "server.key", "other.pem")]
    authority.cert_pem.write_to_path(paths[0])
    server.cert_chain_pems[0].write_to_path(paths[1])
    server.private_key_pem.write_to_path(paths[2])
    other.cert_pem.write_to_path(paths[3])
    return paths[0], (paths[1], paths[2]), paths[3]


def test_tls_with_a_certificate_that_is_checked(
    certificates: tuple[Path, tuple[Path, Path], Path],
) -> None:
    authority, certificate, other = certificates
    with postgres_home() as home, Server(home, certificate=certificate) as server:
        url = server.create_database("cards")
        write(database_sink(f"{url}?sslmode=verify-full&sslrootcert={authority}"), "t")
        assert keys(f"{url}?sslmode=require") == ["t"]
        with pytest.raises(FraudError, match="certificate verify failed"):
            database_sink(f"{url}?sslmode=verify-full&sslrootcert={other}").check()
        with pytest.raises(FraudError, match=r"pg_hba\.conf"):
            database_sink(f"{url}?sslmode=disable").check()
