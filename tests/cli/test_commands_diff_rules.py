"""`rules diff`: files, rule sets of a registry, or none, on the same transactions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from beam_fraud.cli import main
from beam_fraud.cli.commands import diff_rules
from beam_fraud.cli.options import DiffRulesOptions
from beam_fraud.decisions.rules.toml import read_rule_files
from beam_fraud.errors import Code, UsageError
from beam_fraud.storage.urls import Place
from tests.cli.test_registry_option import RULES, bundle, day, place, put  # noqa: F401
from tests.failing import fails

SCHEMA = 'name = "own"\n[roles]\nevent_time = "t"\namount = "a"\ntransaction_id = "id"\n'


@pytest.fixture
def rules(tmp_path: Path) -> tuple[Path, Path]:
    """Two rules files: the second fires on fewer rows, and reviews."""
    old, new = tmp_path / "old.toml", tmp_path / "new.toml"
    old.write_bytes(RULES % b"large")
    new.write_text(old.read_text().replace("amount > 3", "amount > 4").replace("decline", "review"))
    (tmp_path / "own.toml").write_text(SCHEMA)
    return old, new


def diff(old: object, new: object, day: Path, **options: Any) -> dict[str, Any]:  # noqa: F811
    return diff_rules.run(DiffRulesOptions(old=str(old), new=str(new), on=(str(day),), **options))


def test_files_are_compared_beside_a_model_and_without_one(
    rules: tuple[Path, Path],
    day: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    for options in (
        {"model": bundle(tmp_path / "m2", 2)},
        {"schema": str(tmp_path / "own.toml")},
    ):
        result = diff(*rules, day, **options)
        assert (result["old"], result["new"]) == tuple(read_rule_files(str(r)).id for r in rules)
        assert (result["rows"], result["flagged_old"], result["flagged_new"]) == (5, 2, 1)
        assert (result["only_old"]["rows"], result["only_old"]["amount"]) == (1, 4.0)
        (large,) = result["rules"]
        assert list(large["fields"]) == ["when", "decision"]
        sampled = {row["transaction_id"]: row["decision_new"] for row in result["sample"]}
        assert sampled == {"x4": "approve", "x5": "review"}
        assert (result["sample"][0]["score"] is None) == ("schema" in options)
        text = diff_rules.render(result)
        assert "changed large" in text
        assert "decline to review" in text


def test_rule_sets_of_a_registry_and_none_beside_its_champion(
    place: Place,  # noqa: F811
    day: Path,  # noqa: F811
) -> None:
    put(place, "m2")
    result = diff("night", "day", day, registry=str(place))
    assert result["old"].startswith("night@")
    assert {rule["rule"]: rule["change"] for rule in result["rules"]} == {
        "day": "added", "night": "removed",
    }  # fmt: skip
    assert result["otherwise"]["rows"] == 0
    result = diff("none", result["old"], day, registry=str(place))
    assert (result["old"], result["only_new"]["rows"]) == ("none", 2)
    with fails(Code.REGISTRY_UNKNOWN, "nigth"):
        diff("nigth", "none", day, registry=str(place))


def test_reports_are_written_and_the_call_prints_the_same_figures(
    rules: tuple[Path, Path],
    day: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    outs = [tmp_path / f"diff{ending}" for ending in (".html", ".md", ".json")]
    call = ["rules", "diff", *map(str, rules), "--on", str(day), "--json"]
    call += ["--schema", str(tmp_path / "own.toml")]
    assert main([*call, *(f"--out={out}" for out in outs)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["reports"] == list(map(str, outs))
    assert json.loads(outs[2].read_text())["only_old"] == printed["only_old"]
    assert "Rules that differ" in outs[0].read_text()
    assert main([*call, "--out", str(tmp_path / "diff.pdf")]) == 2


def test_what_cannot_be_compared_is_refused(
    rules: tuple[Path, Path],
    day: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    old, new = rules
    with fails(Code.OPTION_VALUE, "NEW night", UsageError):
        diff(old, "night", day, schema=str(tmp_path / "own.toml"))
    with fails(Code.OPTION_MISSING, "--schema", UsageError):
        diff(old, new, day)
    new.write_text(new.read_text().replace("amount > 4", "score > 0.5"))
    with fails(Code.RULE_CONDITION, "give --model BUNDLE", UsageError):
        diff(old, new, day, schema=str(tmp_path / "own.toml"))
