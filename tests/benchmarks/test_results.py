"""The results page has every figure and every missed target."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from beam_fraud.errors import FraudError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.schema.toml import load_schema
from benchmarks.results import __main__ as results
from benchmarks.results import recipes
from benchmarks.results.handbook import load_week
from benchmarks.results.lines import Column, Line, Section, verdicts
from benchmarks.results.page import markdown, replaced
from benchmarks.results.recipe import ROOT, BundleRecipe
from benchmarks.results.ulb import false_alarms_at

DATA = ROOT.parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the real transactions are not here")
ALARMS = Column("alarms", "false alarms", digits=0, less=True)
PRECISION = Column("precision", "average precision")
RECIPES = [value for value in vars(recipes).values() if isinstance(value, BundleRecipe)]


def section(*lines: Line, key: str = "ulb") -> Section:
    return Section(key, "ULB", "What it is.", (PRECISION, ALARMS), lines)


def test_a_table_has_means_deviations_and_published_figures() -> None:
    line = Line("forest", ({"precision": 0.7}, {"precision": 0.9}), published={"precision": 0.81})
    other = Line("published", ({"alarms": 1441.0},))
    assert markdown(section(other, line)).splitlines()[4:8] == [
        "|  | seeds | average precision | false alarms |",
        "| --- | --- | --- | --- |",
        "| published | 1 | - | 1,441 |",
        "| forest | 2 | 0.800 ± 0.100 (published 0.810) | - |",
    ]


@pytest.mark.parametrize(
    ("mean", "alarms", "met"),
    [(0.80, 300.0, [True, True]), (0.799, 300.0, [False, True]), (0.9, 301.0, [True, False])],
)
def test_a_mean_on_its_bound_is_enough(mean: float, alarms: float, met: list[bool]) -> None:
    runs = ({"precision": mean, "alarms": alarms},)
    line = Line("best", runs, floors={"precision": 0.8, "alarms": 300})
    assert [verdict.met for verdict in verdicts(line, (PRECISION, ALARMS))] == met
    missed = markdown(section(line)).count("| **missed** |")
    assert missed == met.count(False)


@pytest.mark.parametrize(("mean", "met"), [(0.8764, True), (0.876, True), (0.877, False)])
def test_published_figures_are_compared_within_their_digits(mean: float, met: bool) -> None:
    line = Line("forest", ({"precision": mean},), published={"precision": 0.866})
    assert [verdict.met for verdict in verdicts(line, (PRECISION,))] == [met]


def test_tables_replace_those_of_the_page_and_nothing_else() -> None:
    page = "# Results\n<!-- results: ulb -->\nold\n<!-- end: ulb -->\nWords.\n"
    new = replaced(page, [section(Line("forest", ({"precision": 0.5},)))])
    assert new.startswith("# Results\n<!-- results: ulb -->\n## ULB\n")
    assert new.endswith("|\n<!-- end: ulb -->\nWords.\n")
    assert "old" not in new
    assert replaced(new, [section(Line("forest", ({"precision": 0.5},)))]) == new
    with pytest.raises(FraudError, match=r"<!-- results: week -->"):
        replaced(page, [section(key="week")])


def test_false_alarms_count_ties_with_the_last_fraud() -> None:
    labels = np.array([1, 0, 1, 0, 0], dtype=np.int8)
    assert false_alarms_at(labels, np.array([0.9, 0.5, 0.5, 0.5, 0.1]), caught=2) == 2
    assert false_alarms_at(labels, np.array([0.9, 0.5, 0.5, 0.5, 0.1]), caught=1) == 0


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.title)
def test_recipes_are_valid_calls_of_train(recipe: BundleRecipe) -> None:
    assert recipe.kind.name == recipe.model.partition(":")[0]
    assert FeatureSet(recipe.load_schema()).names
    command = recipe.command("transactions.parquet")
    assert command.startswith("beam-fraud train transactions.parquet --schema ")
    assert all(f"--set {setting}" in command for setting in recipe.settings)


def test_the_rich_schema_reads_the_columns_of_the_preset() -> None:
    rich = load_schema(str(ROOT / "docs" / "recipes" / "handbook_rich.toml"))
    assert rich.roles == HANDBOOK.roles


def test_the_page_has_a_place_for_every_section() -> None:
    page = (ROOT / "docs" / "results.md").read_text("utf-8")
    for key in results.SECTIONS:
        assert page.count(f"<!-- results: {key} -->") == page.count(f"<!-- end: {key} -->") == 1


def test_an_unknown_section_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        results.main(["--data", ".", "--only", "ulb"])
    assert ended.value.code == 2
    assert "--only ulb: no such section; there are ulb-time" in capsys.readouterr().err


def test_absent_transactions_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        results.main(["--data", str(tmp_path), "--only", "handbook", "--seeds", "1"])
    assert ended.value.code == 1
    assert capsys.readouterr().err.count("\n") == 1


@needs_data
@pytest.mark.slow
def test_the_handbooks_rows_are_the_published_ones() -> None:
    file = str(DATA / "handbook_transactions.parquet")
    week = load_week(file, HANDBOOK)
    assert (len(week.training), len(week.tested)) == (67_240, 58_264)
    earlier = load_week(file, HANDBOOK, datetime.fromisoformat("2018-07-18T00:00:00+00:00"))
    assert (len(earlier.training), len(earlier.tested)) == (66_928, 58_505)


@needs_data
@pytest.mark.soak
def test_a_run_with_one_seed_computes_every_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "results.md"
    page.write_text((ROOT / "docs" / "results.md").read_text("utf-8"), "utf-8")
    results.main(["--data", str(DATA), "--seeds", "1", "--json", "--out", str(page)])
    sections = json.loads(capsys.readouterr().out)
    assert [result["key"] for result in sections] == list(results.SECTIONS)
    ours = [line for result in sections for line in result["lines"] if line["command"]]
    assert all(0.6 < line["runs"][0]["average_precision"] < 1 for line in ours)
    assert "| 1 |" in page.read_text("utf-8")
