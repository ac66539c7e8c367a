"""The benchmark of reasons runs and checks its bounds."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.measure import ROOT
from benchmarks.reasons import ratios


@pytest.mark.soak
def test_the_part_measures_every_kind(tmp_path: Path) -> None:
    rng, rows = np.random.default_rng(1), 2_000
    frauds = np.arange(rows) % 20 == 7
    columns = {"Time": np.sort(rng.integers(0, 172_792, rows)).astype(float)}
    columns |= {f"V{i}": rng.normal(3.0 * frauds * (i < 4), 1) for i in range(1, 29)}
    columns |= {"Amount": rng.exponential(80, rows).round(2), "Class": frauds.astype(np.int8)}
    pq.write_table(pa.table(columns), tmp_path / "creditcard.parquet")
    command = [sys.executable, "-m", "benchmarks", "--only", "reasons", "--repeat", "1", "--json"]
    command += ["--data", str(tmp_path), "--work", str(tmp_path / "work")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert [figure["rows"] for figure in measured["figures"]] == [2_000] * 6
    assert len(measured["ratios"]) == 3 * 4
    assert {ratio["bound"] for ratio in measured["ratios"]} == {None}, "too few rows for a bound"


@pytest.mark.parametrize(("cost", "ratio", "held"), [(75.0, 2.0, True), (75.1, 2.1, False)])
def test_bounds_are_on_many_rows(cost: float, ratio: float, held: bool) -> None:
    result = {"rows": 200_000, "microseconds": {"10": 999.0, "100": cost}, "median_ratio": ratio}
    assert [r.holds for r in ratios("logistic", result)] == [None, held, held]
