"""`registry` on bundles of `train`: measure, promote, show, roll back."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from beam_fraud.cli import main
from tests.cli.test_commands_models import ROWS, shop  # noqa: F401  # a fixture


class Desk:
    """Somebody who calls `registry` of one directory."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.place = directory / "registry"
        self._capsys = capsys

    def __call__(self, *words: str) -> dict[str, Any]:
        """Return the result of a call that succeeds, and check that it prints as text."""
        result: dict[str, Any] = json.loads(self.text(*words, "--json"))
        return result

    def text(self, *words: str) -> str:
        assert main(self._call(words)) == 0
        return self._capsys.readouterr().out

    def fails(self, *words: str) -> str:
        """Return the line of a call that fails."""
        assert main(self._call(words)) in (1, 2)
        return self._capsys.readouterr().err

    def _call(self, words: tuple[str, ...]) -> list[str]:
        return ["registry", *words, "--registry", str(self.place), "--log-level", "error"]


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def test_the_life_of_a_model(shop: Path, desk: Desk, tmp_path: Path) -> None:  # noqa: F811
    assert "[BF430]" in desk.fails("list")
    one = desk("add", str(shop / "models" / "one"), "--who", "ann")["entry"]["id"]
    two = desk("add", str(shop / "models" / "two"))["challengers"][1]
    assert desk("promote", "one", "--why", "the first")["champion"] == one
    (tmp_path / "comparison.html").write_text("<p>better</p>")
    on = ("--on", str(shop / "data.parquet"), "--from", "2024-01-04")
    report = ("--report", str(tmp_path / "comparison.html"))
    require = ("--require", "ap >= champion.ap - 0.9", "--require", "auc > 0.5")
    done = desk("promote", "two", "--why", "finds more", *on, *require, *report)
    assert (done["champion"], done["challengers"]) == (two, [])
    evidence = done["entry"]["evidence"]
    assert evidence["rows"] == ROWS - 3 * 144
    assert (evidence["model"]["model_id"], evidence["champion"]["model_id"]) == (two, one)
    assert evidence["required"] == list(require[1::2])
    assert len(evidence["data_sha256"]) == 64
    assert (desk.place / done["entry"]["report"]["place"]).read_text() == "<p>better</p>"
    assert desk("verify")["reports"] == 1
    back = desk("rollback", "--why", "too many alerts")
    assert (back["champion"], back["challengers"]) == (one, [two])
    desk("retire", two, "--why", "too many alerts")
    states = {member["id"]: member["state"] for member in desk("list")["members"]}
    assert states == {one: "champion", two: "retired"}
    assert [entry["action"] for entry in desk("show", two)["entries"]] == [
        "add",
        "promote",
        "rollback",
        "retire",
    ]
    assert len(desk("log", "--limit", "2")["entries"]) == 2
    log = desk.text("log")
    assert f"rollback {two} to {one}" in log
    assert "ann" in log
    for words in (("list",), ("show",), ("show", one), ("verify",)):
        assert desk.text(*words)


def test_a_worse_model_is_not_promoted(shop: Path, desk: Desk) -> None:  # noqa: F811
    desk("add", str(shop / "models" / "one"))
    on = ("--on", str(shop / "data.parquet"), "--from", "2024-01-04")
    line = desk.fails("promote", "one", "--why", "x", "--require", "ap > champion.ap", *on)
    assert "no champion" in line
    assert "[BF435]" in line
    line = desk.fails("promote", "one", "--why", "x", "--require", "ap > 1", *on)
    assert "average precision is 0." in line
    assert desk("show")["champion"] is None
    assert len(desk("log")["entries"]) == 1
    assert "--on" in desk.fails("promote", "one", "--why", "x", "--require", "ap > 1")
    assert "--why" in desk.fails("promote", "one")
    assert "--why" in desk.fails("promote", "one", "--why", " ")
    assert "[BF433]" in desk.fails("promote", "three", "--why", "x")


def test_rules_are_added_with_their_lists(shop: Path, desk: Desk, tmp_path: Path) -> None:  # noqa: F811
    rules = tmp_path / "night.toml"
    rules.write_text(
        '[[list]]\nname = "bad"\nfile = "bad.txt"\n'
        '[[rule]]\nname = "bad"\nwhen = "account_id in bad"\ndecision = "decline"\n'
    )
    assert "bad.txt" in desk.fails("add", str(rules))
    (tmp_path / "bad.txt").write_text("a\n")
    added = desk("add", str(rules), "--name", "day")["entry"]
    assert added["id"].startswith("day@")
    assert sorted(added["files"]) == ["bad.txt", "rules.toml"]
    desk("add", str(shop / "models" / "one"))
    desk("promote", "one", "--why", "x")
    assert desk("promote", "day", "--why", "x")["rules"] == added["id"]
    on = ("--on", str(shop / "data.parquet"))
    assert "rules check" in desk.fails("promote", "day", "--why", "x", *on)
    rules.write_text(rules.read_text().replace("account_id", "nobody"))
    desk("add", str(rules), "--name", "day")
    assert "nobody" in desk.fails("promote", "day", "--why", "x")
    assert "--name" in desk.fails("add", str(shop / "models" / "two"), "--name", "x")
    assert desk("verify")["rule_sets"] == 2


def test_the_calls_of_the_page_work(
    shop: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, made in (("forest", "one"), ("boosting", "two")):
        shutil.copytree(shop / "models" / made, tmp_path / "models" / name)
    rows = pq.read_table(shop / "data.parquet")
    for name, part in (("before", rows.slice(0, 400)), ("labelled", rows.slice(400))):
        pq.write_table(part, tmp_path / f"{name}.parquet")
    (tmp_path / "comparison.html").write_text("<p>better</p>")
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "registry.md").read_text("utf-8")
    (block,) = re.findall(r"^```sh\n(beam-fraud registry add .*?)^```", page, re.M | re.S)
    calls = block.replace("\\\n", " ").splitlines()
    assert len(calls) == 6
    for line in calls:
        # The two models of this test are about equally good.
        words = shlex.split(line.replace("champion.ap", "champion.ap - 0.5"))
        words = [{"forest": "one", "boosting": "two"}.get(word, word) for word in words]
        assert main([*words[1:], "--log-level", "error"]) == 0, line
    assert "too many alerts on Sunday" in capsys.readouterr().out
