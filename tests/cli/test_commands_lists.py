"""`lists`: entries with expiry, reason and author, and runs whose rules name them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from beam_fraud.cli import main
from beam_fraud.cli.commands import score
from beam_fraud.cli.options import ScoreOptions
from beam_fraud.errors import Code, UsageError
from tests.cli.test_commands_score import bundle
from tests.failing import fails

ROLES = {"transaction_id": "id", "event_time": "t", "amount": "a", "account_id": "who"}


class Desk:
    """Somebody who calls `lists` of one directory."""

    def __init__(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.place = place
        self._capsys = capsys

    def __call__(self, *words: str) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(self.text(*words, "--json"))
        return result

    def text(self, *words: str) -> str:
        assert main(["lists", *words, "--lists", str(self.place)]) == 0
        return self._capsys.readouterr().out

    def fails(self, *words: str) -> str:
        assert main(["lists", *words, "--lists", str(self.place)]) in (1, 2)
        return self._capsys.readouterr().err


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path / "lists", capsys)


def values(shown: dict[str, Any]) -> list[str]:
    return [one["value"] for one in shown["shown"]]


def test_entries_are_added_removed_and_shown(desk: Desk) -> None:
    assert "lists: is not there" in desk.fails("show")
    desk.place.mkdir()
    assert "There are no lists" in desk.text("show")
    assert "[BF506]" in desk.fails("show", "blocked")
    added = desk("add", "blocked", "a", "b", "--reason", "stolen", "--who", "ann", "--for", "30d")
    assert added == {"list": "blocked", "changes": 2, "entries": 2}
    assert desk("add", "blocked", "old", "--until", "2020-01-01")["entries"] == 2
    desk("add", "trusted", "m1")
    assert desk("show")["lists"] == [
        {"list": "blocked", "entries": 2},
        {"list": "trusted", "entries": 1},
    ]
    shown = desk("show", "blocked")
    assert values(shown) == ["b", "a"]
    assert (shown["shown"][0]["reason"], shown["shown"][0]["who"]) == ("stolen", "ann")
    assert desk("remove", "blocked", "a")["entries"] == 1
    history = desk("show", "blocked", "--value", "a")
    assert [one["action"] for one in history["shown"]] == ["add", "remove"]
    assert "stolen" in desk.text("show", "blocked")
    assert "trusted" in desk.text("show")
    assert "nothing was removed" in desk.fails("remove", "blocked", "b", "a")
    assert values(desk("show", "blocked")) == ["b"]
    assert "[BF104]" in desk.fails("add", "blocked", "a", "--for", "1d", "--until", "2030-01-01")


def test_files_are_imported_and_replace_what_was_there(desk: Desk, tmp_path: Path) -> None:
    plain = tmp_path / "ids.txt"
    plain.write_text("# stolen\na\n b \n\na\n")
    assert desk("import", "blocked", str(plain))["entries"] == 2
    table = tmp_path / "ids.csv"
    table.write_text("note,card,until,reason\nx,b,,\ny,c,2999-01-01,theft\nz,d,2000-01-01,\n")
    given = ("import", "blocked", str(table), "--column", "card", "--reason", "feed", "--replace")
    assert desk(*given)["entries"] == 2
    shown = desk("show", "blocked")
    assert values(shown) == ["c", "b"]
    assert [one["reason"] for one in shown["shown"]] == ["theft", "feed"]
    assert "'crd'" in desk.fails("import", "blocked", str(table), "--column", "crd")
    table.write_text("card,until\nb,soon\n")
    assert "line 2: until soon" in desk.fails("import", "blocked", str(table))
    table.write_text("card,until\nb\n")
    assert "line 2" in desk.fails("import", "blocked", str(table))
    assert values(desk("show", "blocked")) == ["c", "b"]


def test_a_run_looks_its_accounts_up(desk: Desk, tmp_path: Path) -> None:
    day = tmp_path / "day.csv"
    day.write_text("id,t,a,who\n1,2024-01-01T00:00:00Z,1,ann\n2,2024-01-02T00:00:00Z,2,bob\n")
    rules = tmp_path / "rules.toml"
    rules.write_text(
        "[[rule]]\nname = 'trusted'\nwhen = 'account_id in @trusted'\ndecision = 'approve'\n"
    )
    options = ScoreOptions(
        files=(str(day),),
        model=bundle(tmp_path / "model", ROLES),
        rules=str(rules),
        out=str(tmp_path / "out"),
        lists=str(desk.place),
    )
    with fails(Code.RULE_CONDITION, "@trusted", UsageError):
        score.run(options)
    # The entry ends between the two transactions.
    desk("add", "trusted", "ann", "bob", "--until", "2024-01-01T12:00:00Z")
    result = score.run(options)
    assert result["rules"] == {"trusted": {"fired": 1, "share": 0.5}}
    assert result["rows_flagged"] == 1
    # The same entries from a table.
    (desk.place / "trusted.jsonl").unlink()
    with closing(sqlite3.connect(desk.place / "shop.db")) as database:
        database.execute("CREATE TABLE trusted (id TEXT, ends TEXT)")
        database.executemany(
            "INSERT INTO trusted VALUES (?, '2024-01-01T12:00:00Z')", [("ann",), ("bob",)]
        )
        database.commit()
    declaration = "[table]\ndatabase = 'sqlite:///shop.db'\nname = 'trusted'\nvalue = 'id'\n"
    (desk.place / "trusted.toml").write_text(f"{declaration}until = 'ends'\n")
    assert score.run(options)["rules"] == result["rules"]
    with fails(Code.RULE_CONDITION, "--lists", UsageError):
        score.run(replace(options, lists=None))
    with fails(Code.URL_UNUSABLE, "--lists gs://b", UsageError):
        score.run(replace(options, lists="gs://b"))
