"""`beam-fraud users add`, `list`, `disable` and `reset`."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from beam_fraud.cli import main
from beam_fraud.cli.commands.users import PASSWORD_VARIABLE
from beam_fraud.review import audit_log
from beam_fraud.review.people.users import known_user, list_users, note_login, user_by_password
from beam_fraud.storage.database.connection import (
    prepare_database,
    sqlite_url,
    transaction,
    writing,
)

PASSWORD = "quiet river seven"


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    url = sqlite_url(tmp_path / "review.db")
    prepare_database(url)
    return url


def run(*arguments: str) -> int:
    return main(["users", *arguments])


def test_a_person_is_added_reset_and_disabled(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("add", "anna", "--role", "admin", "--database", url) == 0
    assert run("add", "bert", "--role", "analyst", "--database", url, "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out.splitlines()[-1]) == {"user": "bert", "role": "analyst"}
    assert PASSWORD not in said.out + said.err
    with transaction(url) as connection:
        assert user_by_password(connection, "anna", PASSWORD) is not None

    (tmp_path / "password").write_text("another river 8\n", "utf-8")
    file = str(tmp_path / "password")
    assert run("reset", "bert", "--password-file", file, "--database", url) == 0
    assert run("reset", "bert", "--role", "lead", "--database", url) == 0
    assert run("disable", "anna", "--database", url) == 1, "the last administrator stays"
    assert run("disable", "bert", "--database", url) == 0
    with transaction(url) as connection:
        anna, bert = list_users(connection)
        assert (anna.disabled_at, bert.role.word) == (None, "lead")
        assert bert.disabled_at is not None
        log = audit_log.entries(connection)
    done = [(one.action, one.detail["user"]) for one in reversed(log)]
    assert done == [
        ("user_added", "anna"),
        ("user_added", "bert"),
        ("user_reset", "bert"),
        ("user_reset", "bert"),
        ("user_disabled", "bert"),
    ]
    assert PASSWORD not in repr(log)


def test_users_are_listed_with_roles_and_times(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("list", "--database", url) == 0
    assert "no users" in capsys.readouterr().out
    for name, role in (("Anna", "admin"), ("bert", "analyst")):
        assert run("add", name, "--role", role, "--database", url) == 0
    with writing(url) as connection:
        note_login(connection, known_user(connection, "anna"))
    assert run("disable", "bert", "--database", url) == 0
    capsys.readouterr()
    assert run("list", "--database", url, "--json") == 0
    anna, bert = json.loads(capsys.readouterr().out)["users"]
    assert (anna["user"], anna["role"], anna["disabled_at"]) == ("Anna", "admin", None)
    assert (bert["user"], bert["role"], bert["seen_at"]) == ("bert", "analyst", None)
    assert datetime.fromisoformat(anna["seen_at"]) >= datetime.fromisoformat(anna["created_at"])
    assert bert["disabled_at"] is not None
    assert run("list", "--database", url) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["user", "role", "added", "last", "log-in", "disabled"]
    assert [line.split()[:2] for line in lines] == [["Anna", "admin"], ["bert", "analyst"]]


@pytest.mark.parametrize(
    ("arguments", "code", "exit_code"),
    [
        (("add", "a b", "--role", "lead"), "BF951", 1),
        (("add", "anna", "--role", "boss"), "BF", 2),
        (("reset", "nobody"), "BF953", 1),
        (("disable", "nobody"), "BF953", 1),
        (("add", "anna", "--role", "lead", "--password-file", "away"), "BF112", 1),
    ],
)
def test_a_wrong_call_is_one_line(
    url: str,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: str,
    exit_code: int,
) -> None:
    assert run(*arguments, "--database", url) == exit_code
    assert f"[{code}" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("add", "--role", "admin"), ("reset",), ("disable",)])
def test_a_misspelt_database_is_not_created(
    url: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words, "anna", "--database", f"{url}x") == 1
    assert "[BF225]" in capsys.readouterr().err
    assert not Path(f"{url}x".removeprefix("sqlite:///")).exists()


def test_a_short_password_is_refused(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "hunter2")
    assert run("add", "anna", "--role", "admin", "--database", url) == 1
    said = capsys.readouterr().err
    assert "[BF954]" in said
    assert "hunter2" not in said


def test_without_a_terminal_a_password_comes_from_a_file_or_a_variable(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(PASSWORD_VARIABLE)
    assert run("add", "anna", "--role", "admin", "--database", url) == 2
    assert "--password-file" in capsys.readouterr().err
