"""A command that reads or changes an existing database creates nothing at a wrong path."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_fraud.cli import main
from beam_fraud.cli.commands.users import PASSWORD_VARIABLE

SNOOZE = ("alerts", "snooze", "--for", "8h")
CALLS = {
    "users add": ("users", "add", "anna", "--role", "admin", "--database"),
    "users list": ("users", "list", "--database"),
    "users disable": ("users", "disable", "anna", "--database"),
    "users reset": ("users", "reset", "anna", "--database"),
    "review": ("review", "--database"),
    "label import": ("label", "import", "labels.csv", "--database"),
    "label export": ("label", "export", "--out", "out.csv", "--database"),
    "monitor": ("monitor", "--model", "model", "--database"),
    "alerts list": ("alerts", "list", "--sink"),
    "alerts resend": ("alerts", "resend", "--alert", "console:", "--sink"),
    "alerts snooze": (*SNOOZE, "--account", "a", "--sink"),
    "alerts snooze --figure": (*SNOOZE, "--figure", "volume", "--sink"),
    "dead-letters list": ("dead-letters", "list", "--sink"),
    "dead-letters export": ("dead-letters", "export", "--to", "bad.csv", "--sink"),
    "dead-letters replay": ("dead-letters", "replay", "--model", "m", "--out", "o", "--from-sink"),
}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a file of labels that cannot be read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(PASSWORD_VARIABLE, "quiet river seven")
    (tmp_path / "labels.csv").write_text("transaction_id,label\n")
    return tmp_path


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("path", ["wrong.db", "no/where.db"])
def test_a_wrong_path_stays_empty(
    place: Path, call: str, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(place.rglob("*"))
    assert main([*CALLS[call], f"sqlite:///{path}"]) == 1
    error = capsys.readouterr().err
    assert ("labels.csv" if call == "label import" and path == "wrong.db" else path) in error
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("call", CALLS)
def test_an_unknown_scheme_names_databases_alone(
    call: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*CALLS[call], "wrong.db"]) == 2
    error = capsys.readouterr().err
    assert "(known: env:NAME, postgresql://USER@HOST/DATABASE, sqlite:///FILE)" in error
    assert not any(other in error for other in ("parquet", "iceberg", "bigquery"))


@pytest.mark.parametrize("end", [("--for", "8h"), ("--lift",)])
def test_a_figure_is_snoozed_in_no_directory_of_another_kind(
    place: Path, end: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(place.rglob("*"))
    assert main(["alerts", "snooze", "--figure", "volume", *end, "--out", str(place)]) == 1
    assert str(place) in capsys.readouterr().err
    assert sorted(place.rglob("*")) == before
