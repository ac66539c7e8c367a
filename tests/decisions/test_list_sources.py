"""Lists from files and from tables of both databases."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from beam_fraud.decisions.lists import table_list
from beam_fraud.decisions.lists.changes import Change, append_changes
from beam_fraud.decisions.lists.live_list import LiveList
from beam_fraud.errors import Code
from beam_fraud.storage.database.connection import sqlite_url
from beam_fraud.storage.database.engines import engine
from deploy.postgres.server import Server
from tests.connections import close_connections
from tests.decisions.list_contract import (
    LATER,
    ListContract,
    Origin,
    among,
    look_often,
    refused,
    soon,
)
from tests.failing import fails


class FileOrigin(Origin):
    declared = False

    def add(self, *values: str, until: datetime | None = None) -> None:
        now = datetime.now(UTC)
        changes = (Change(value, "add", now, "ann", until, "a test") for value in values)
        append_changes(self.directory, "blocked", changes)

    def remove(self, *values: str) -> None:
        now = datetime.now(UTC)
        changes = (Change(value, "remove", now, "ann") for value in values)
        append_changes(self.directory, "blocked", changes)

    def fill(self, values: list[str]) -> None:
        self.add(*values)

    def break_down(self) -> None:
        (self.directory / "blocked.jsonl").rename(self.directory / "away")

    def mend(self) -> None:
        (self.directory / "away").rename(self.directory / "blocked.jsonl")


class TableOrigin(Origin):
    """A table; `changed` is whether it has a column of the last change."""

    def __init__(self, directory: Path, url: str, *, changed: bool) -> None:
        super().__init__(directory)
        self.url, self.changed = url, changed
        self.execute(
            "CREATE TABLE blocked_cards (card TEXT, expires_at TIMESTAMP, why TEXT, author TEXT, "
            "changed_at INTEGER)"
        )
        self.count = 0
        lines = ["[table]", f'database = "{url}"', 'name = "blocked_cards"', 'value = "card"']
        lines += ['until = "expires_at"', 'reason = "why"', 'who = "author"']
        lines += ['changed = "changed_at"'] if changed else []
        (directory / "blocked.toml").write_text("\n".join(lines))

    def execute(self, statement: str, **values: object) -> None:
        with engine(self.url).begin() as connection:
            connection.execute(text(statement), values)

    def add(self, *values: str, until: datetime | None = None) -> None:
        for value in values:
            self.count += 1
            row = {"value": value, "until": None if until is None else until.isoformat(" ")[:19]}
            self.execute("DELETE FROM blocked_cards WHERE card = :value", value=value)
            self.execute(
                "INSERT INTO blocked_cards VALUES "
                "(:value, CAST(:until AS TEXT)::timestamp, 'a test', 'ann', :count)"
                if "postgresql" in self.url
                else "INSERT INTO blocked_cards VALUES (:value, :until, 'a test', 'ann', :count)",
                **row,
                count=self.count,
            )

    def remove(self, *values: str) -> None:
        for value in values:
            self.execute("DELETE FROM blocked_cards WHERE card = :value", value=value)

    def fill(self, values: list[str]) -> None:
        with engine(self.url).begin() as connection:
            for begin in range(0, len(values), 50_000):
                connection.execute(
                    text("INSERT INTO blocked_cards (card, changed_at) VALUES (:v, 1)"),
                    [{"v": value} for value in values[begin : begin + 50_000]],
                )

    def break_down(self) -> None:
        self.execute("ALTER TABLE blocked_cards RENAME TO away")

    def mend(self) -> None:
        self.execute("ALTER TABLE away RENAME TO blocked_cards")


class TestFiles(ListContract):
    @pytest.fixture
    def origin(self, tmp_path: Path) -> Origin:
        return FileOrigin(tmp_path / "lists")


class TestTables(ListContract):
    @pytest.fixture(params=[True, False], ids=["changed", "whole"])
    def origin(self, request: pytest.FixtureRequest, tmp_path: Path, database: str) -> Origin:
        return TableOrigin(tmp_path / "lists", database, changed=request.param)


@pytest.fixture
def table(tmp_path: Path) -> TableOrigin:
    return TableOrigin(tmp_path / "lists", sqlite_url(tmp_path / "cards.db"), changed=True)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    look_often(monkeypatch)


@pytest.mark.parametrize("same", [1, "2026-01-01 00:00:00"])
def test_only_changed_rows_are_read(
    often: None, table: TableOrigin, monkeypatch: pytest.MonkeyPatch, same: object
) -> None:
    table.fill([f"v{n}" for n in range(1_000)])
    table.execute("UPDATE blocked_cards SET changed_at = :same", same=same)
    live = LiveList(table.directory, "blocked")
    read: list[int] = []
    texts = table_list._texts

    def counted_texts(*given: object) -> object:
        rows = texts(*given)  # type: ignore[arg-type]
        read.append(rows.num_rows)
        return rows

    monkeypatch.setattr(table_list, "_texts", counted_texts)
    insert = "INSERT INTO blocked_cards (card, changed_at) VALUES ('new', :at)"
    table.execute(insert, at=2 if same == 1 else "2026-01-01 00:00:01")
    soon(lambda: among(live, "new") == [True])
    assert max(read) == 1


def test_more_may_change_on_the_same_day(often: None, table: TableOrigin) -> None:
    insert = "INSERT INTO blocked_cards (card, changed_at) VALUES (:card, '2026-01-01')"
    table.execute(insert, card="a")
    live = LiveList(table.directory, "blocked")
    assert among(live, "a") == [True]
    table.execute("UPDATE blocked_cards SET expires_at = '2020-01-01', changed_at = '2026-01-01'")
    soon(lambda: among(live, "a") == [False])


def test_rows_that_changed_without_their_time_are_found_by_comparison(
    often: None, table: TableOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_list, "_COMPARE_SECONDS", 0.0)
    monkeypatch.setattr(table_list, "_SETTLED_SECONDS", 0.0)
    table.add("a", "b")
    live = LiveList(table.directory, "blocked")
    table.execute("UPDATE blocked_cards SET card = 'c' WHERE card = 'a'")
    soon(lambda: among(live, "a", "b", "c") == [False, True, True])


def test_of_several_rows_of_a_value_the_one_that_ends_last_counts(
    often: None, table: TableOrigin
) -> None:
    insert = "INSERT INTO blocked_cards (card, expires_at, changed_at) VALUES ('a', :end, 1)"
    table.execute(insert, end=LATER.isoformat())
    live = LiveList(table.directory, "blocked")
    assert among(live, "a", at=2 * 10**15) == [False]
    table.execute(insert, end=None)
    soon(lambda: among(live, "a", at=2 * 10**15) == [True])
    table.execute("DELETE FROM blocked_cards WHERE expires_at IS NULL")
    soon(lambda: among(live, "a", at=2 * 10**15) == [False])


@pytest.mark.parametrize("end", ["infinity", "9999-12-31", "2500-01-01 00:00:00+00"])
def test_a_time_that_stands_for_never_is_no_end(table: TableOrigin, end: str) -> None:
    table.execute("INSERT INTO blocked_cards (card, expires_at) VALUES ('a', :end)", end=end)
    table.execute("INSERT INTO blocked_cards (card, expires_at) VALUES (NULL, NULL)")
    assert among(LiveList(table.directory, "blocked"), "a", None) == [True, False]


def test_an_end_that_is_no_time_is_refused_without_showing_it(table: TableOrigin) -> None:
    table.execute("INSERT INTO blocked_cards (card, expires_at) VALUES ('a', 'soon')")
    error = refused(table.directory)
    assert error.code == Code.LIST_INVALID
    assert "expires_at" in str(error)
    assert "soon" not in str(error)


def test_a_killed_database_comes_back(
    often: None, tmp_path: Path, own_postgres: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    origin = TableOrigin(tmp_path / "lists", own_postgres.url(), changed=True)
    origin.add("a")
    live = LiveList(origin.directory, "blocked")
    own_postgres.kill()
    soon(lambda: "stays as it was" in caplog.text, 30)
    assert among(live, "a", "b") == [True, False]
    assert among(LiveList(origin.directory, "blocked"), "a", "b") == [True, False]
    own_postgres.start()
    origin.add("b")
    soon(lambda: among(live, "a", "b") == [True, True], 30)
    assert caplog.text.count("stays as it was") == 1
    assert "is followed again" in caplog.text
    assert own_postgres.password not in caplog.text
    close_connections(origin.url)


def test_a_change_is_taken_up_at_the_usual_pace(postgres_database: str, tmp_path: Path) -> None:
    origin = TableOrigin(tmp_path / "lists", postgres_database, changed=False)
    origin.add("a")
    live = LiveList(origin.directory, "blocked")
    origin.add("b")
    soon(lambda: among(live, "b") == [True], 10)


def test_rows_with_bigints_in_another_schema_are_read(
    postgres_database: str, tmp_path: Path
) -> None:
    with engine(postgres_database).begin() as connection:
        connection.execute(text("CREATE SCHEMA risk"))
        connection.execute(text('CREATE TABLE risk."Cards" (id BIGINT, until TIMESTAMPTZ)'))
        connection.execute(
            text(
                "INSERT INTO risk.\"Cards\" VALUES (7, NULL), (8, 'infinity'), (9, '-infinity'), "
                "(10, '2026-01-02 01:00:00+01')"
            )
        )
        connection.execute(text("DELETE FROM risk.\"Cards\" WHERE until = '-infinity'"))
    (tmp_path / "blocked.toml").write_text(
        f"[table]\ndatabase = '{postgres_database}'\nname = 'risk.Cards'\nvalue = 'id'\n"
        "until = 'until'\n"
    )
    live = LiveList(tmp_path, "blocked")
    assert among(live, "7", "8", "9", "10") == [True, True, False, True]
    assert among(live, "10", at=1_767_312_000_000_000) == [False]


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        ("", Code.LIST_INVALID, r"either \[table\] or \[topic\]"),
        ("[table]\nname = 't'\nvalue = 'v'", Code.LIST_INVALID, "database is missing"),
        ("[tabel]\n", Code.LIST_INVALID, "did you mean 'table'"),
        ("[table]\ndatabase = 'mysql://u:hunter2@h/d'\nname = 't'\nvalue = 'v'", Code.SINK_URL, ""),
        ("[table]\ndatabase = 'env:NONE'\nname = 't'\nvalue = 'v'", Code.VARIABLE_UNSET, "NONE"),
        (
            "[table]\ndatabase = 'sqlite:///none.db'\nname = 't'\nvalue = 'v'",
            Code.DATABASE_FILE,
            "no such file",
        ),
        ("[topic]\nkafka = 'here'\nname = 't'", Code.OPTION_VALUE, "HOST:PORT"),
        (
            "[topic]\nkafka = 'h:9092'\nname = 't'\nconfig = {'sasl.password' = 'hunter2'}",
            Code.SECRET_EXPOSED,
            "sasl.password",
        ),
        ("[table", Code.TOML_SYNTAX, "blocked.toml"),
    ],
)
def test_what_names_no_table_or_topic_is_refused(
    tmp_path: Path, text: str, code: Code, named: str
) -> None:
    (tmp_path / "blocked.toml").write_text(text)
    with fails(code, named):
        LiveList(tmp_path, "blocked")
    assert "hunter2" not in str(refused(tmp_path))


def test_a_table_or_column_that_is_not_there_is_named(table: TableOrigin) -> None:
    file = table.directory / "blocked.toml"
    for wrong in ("cards2", 'blocked_cards"\nvalue = "crd'):
        lines = f'[table]\ndatabase = "{table.url}"\nname = "{wrong}"\n'
        file.write_text(lines + ("" if "value" in wrong else 'value = "card"\n'))
        error = refused(table.directory)
        assert error.code == Code.DATABASE_REFUSED
        assert "list blocked" in str(error)


def test_a_list_with_two_sources_is_refused(table: TableOrigin) -> None:
    (table.directory / "blocked.jsonl").write_text("")
    with fails(Code.LIST_INVALID, "both"):
        LiveList(table.directory, "blocked")


def test_another_declaration_is_taken_up(often: None, table: TableOrigin) -> None:
    table.add("a")
    live = LiveList(table.directory, "blocked")
    table.execute("CREATE TABLE others (card TEXT)")
    table.execute("INSERT INTO others VALUES ('b')")
    file = table.directory / "blocked.toml"
    file.write_text(f'[table]\ndatabase = "{table.url}"\nname = "others"\nvalue = "card"\n')
    soon(lambda: among(live, "a", "b") == [False, True])
