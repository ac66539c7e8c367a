"""The benchmark of rules uses rules that fire on some rows."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import ROOT
from benchmarks.rules_run import RULES, hundred_rules


def test_the_rules_are_a_hundred_different_ones() -> None:
    rules = hundred_rules()
    assert len({rule.condition for rule in rules.rules}) == RULES == 100
    assert len(rules.raising) == 75


def test_the_part_measures_both_sizes_of_blocks(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--only", "rules", "--rows", "1000"]
    command += ["--repeat", "1", "--work", str(tmp_path), "--json"]
    printed = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    assert len(printed["figures"]) == 4
    assert [ratio["bound"] for ratio in printed["ratios"]] == [None, None]
    assert all(ratio["value"] > 0 for ratio in printed["ratios"])


def test_few_rules_fire_for_a_row() -> None:
    command = [sys.executable, "-m", "benchmarks.rules_run", "2000", "1000", "1"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert 0.1 < json.loads(done.stdout)["fired"] < 3
