"""The benchmark of velocity features compares equal features."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from benchmarks import velocity
from benchmarks.measure import ROOT
from benchmarks.table import Figure
from benchmarks.velocity_engines import ENGINES, batch


@pytest.mark.parametrize("name", [name for name in ENGINES if name != "batch"])
def test_every_engine_does_the_same_work(name: str, tmp_path: Path) -> None:
    if name in ("duckdb", "polars"):
        pytest.importorskip(name)
    file = tmp_path / "made" / "transactions.parquet"
    velocity.make_transactions(4000, file)
    transactions = pq.read_table(file).combine_chunks()
    expected, result = batch(transactions), ENGINES[name](transactions)
    assert sorted(result) == sorted(expected)
    assert pc.count_distinct(transactions["event_time"]).as_py() == 4000, "no ties"
    for feature, values in expected.items():
        np.testing.assert_allclose(result[feature], values, rtol=1e-9, atol=1e-9, err_msg=feature)
    assert max(values.max() for name, values in expected.items() if "risk" in name) > 0


@pytest.mark.soak
def test_the_part_measures_both_engines(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--only", "velocity", "--rows", "2000"]
    command += ["--repeat", "1", "--work", str(tmp_path), "--json"]
    printed = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    rows = {figure["name"]: figure["rows"] for figure in printed["figures"][:-2]}
    assert {"batch", "state, 1,000 rows", "pandas"} <= rows.keys()
    assert set(rows.values()) == {2000}
    assert {ratio["bound"] for ratio in printed["ratios"]} == {None}, "too few rows for a bound"


def test_an_engine_that_is_not_installed_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert velocity.measure("duckdb", tmp_path, 1, 1) == velocity.Missing(
        "duckdb", "pip install duckdb"
    )


def test_bounds_are_on_many_rows() -> None:
    def figure(seconds: float) -> Figure:
        return Figure("batch", None, 2_000_000, 1, seconds, seconds, 2_000_000 / seconds, 0.0)

    assert [r.holds for r in velocity.ratios({"batch": figure(3.0)}, 2_000_000)] == [True]
    assert [r.holds for r in velocity.ratios({"batch": figure(4.0)}, 2_000_000)] == [False]
