"""The benchmarks run and measure the documented figures."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands import score, train
from beam_fraud.cli.options import ScoreOptions, TrainOptions
from beam_fraud.simulate.simulation import Simulation, simulate
from benchmarks import plain_loop, row_by_row, training
from benchmarks.data import make_handbook, make_ulb
from benchmarks.flink_batch import ratios as flink_batch_ratios
from benchmarks.inputs import UNTIL, Inputs
from benchmarks.measure import ROOT, Case, ProcessFailedError, Run, printed, run, run_in_turn
from benchmarks.memory import measure_memory
from benchmarks.plan import Plan, Results
from benchmarks.table import Ratio, centre_of, figure, render

SOURCE_ROWS = 2_000


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of transactions in the form of ULB's, some of them obvious frauds."""
    rng = np.random.default_rng(1)
    frauds = np.arange(SOURCE_ROWS) % 20 == 7
    columns = {"Time": np.sort(rng.integers(0, 172_792, SOURCE_ROWS)).astype(float)}
    columns |= {f"V{i}": rng.normal(3.0 * frauds * (i < 4), 1) for i in range(1, 29)}
    columns["Amount"] = rng.exponential(80, SOURCE_ROWS).round(2)
    folder = tmp_path_factory.mktemp("data")
    table = pa.table(columns).append_column("Class", pa.array(frauds.astype(np.int8)))
    pq.write_table(table, folder / "creditcard.parquet")
    return folder


@pytest.fixture(scope="module")
def inputs(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five thousand such rows in two files."""
    directory = tmp_path_factory.mktemp("inputs") / "ulb"
    make_ulb(source / "creditcard.parquet", directory, rows=5_000, files=2)
    return directory


@pytest.fixture(scope="module", params=["forest", "hist_gradient_boosting"])
def bundle(
    source: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    """A model of these rows."""
    out = tmp_path_factory.mktemp("bundles") / request.param
    files = (str(source / "creditcard.parquet"),)
    train.run(
        TrainOptions(files=files, schema="ulb", model=request.param, out=str(out), until=UNTIL)
    )
    return out


def test_the_three_ways_give_the_same_scores(inputs: Path, bundle: Path, tmp_path: Path) -> None:
    plain_loop.score(sorted(inputs.iterdir()), bundle, tmp_path / "plain.parquet")
    # The others give no reasons.
    out = str(tmp_path / "pipeline")
    score.run(ScoreOptions(files=(str(inputs),), model=str(bundle), out=out, reasons=0))
    row_by_row.score(f"{inputs}/*.parquet", bundle, tmp_path / "rows")
    plain = pq.read_table(tmp_path / "plain.parquet")
    pipeline = pq.read_table(tmp_path / "pipeline" / "scores")
    assert plain.num_rows == 5_000
    assert len(set(plain.column("score").to_pylist())) > 30
    by_id = [("transaction_id", "ascending")]
    assert plain.sort_by(by_id).equals(pipeline.sort_by(by_id))
    # Files are numbered through, so the rows in order are the loop's rows in order.
    rows = pq.read_table(tmp_path / "rows").sort_by(by_id)
    assert rows.column("transaction_id").to_pylist() == list(range(5_000))
    for name in ("score", "flagged"):
        assert rows.column(name).equals(plain.column(name))


def test_copies_begin_as_the_original_and_never_repeat_it(source: Path, inputs: Path) -> None:
    original = pq.read_table(source / "creditcard.parquet")
    files = [pq.read_table(path) for path in sorted(inputs.iterdir())]
    assert [table.num_rows for table in files] == [2_500, 2_500]
    created = pa.concat_tables(files)
    assert created.column("row").to_pylist() == list(range(5_000))
    created = created.drop_columns("row")
    assert created.slice(0, SOURCE_ROWS).equals(original)
    copy = created.slice(SOURCE_ROWS, SOURCE_ROWS)
    for name in ("Time", "Class"):
        assert copy.column(name).equals(original.column(name))
    changed = np.abs(copy.column("V1").to_numpy() - original.column("V1").to_numpy())
    assert (changed > 0).all()
    assert changed.max() < 0.1
    assert len(set(created.column("V28").to_pylist())) == 5_000


def test_simulated_rows_have_the_requested_number(tmp_path: Path) -> None:
    make_handbook(tmp_path / "handbook", rows=3_000, keep=700)
    everything = pq.read_table(tmp_path / "handbook" / "all.parquet")
    assert everything.num_rows == 3_000
    assert len(set(everything.column("TRANSACTION_ID").to_pylist())) == 3_000
    assert pq.read_table(tmp_path / "handbook" / "first.parquet").equals(everything.slice(0, 700))


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


#: Long enough to be seen.
BE_BUSY = "sum(range(15_000_000))"
HOLD_100_MB = f"held = b'1' * 100_000_000; {BE_BUSY}"


def test_memory_of_processes_side_by_side_is_added_up() -> None:
    measured = run(Case("two", None, (python(HOLD_100_MB), python(HOLD_100_MB))))
    assert 200e6 < measured.peak_bytes < 300e6


def test_memory_of_children_is_added_up() -> None:
    child = f"subprocess.run([sys.executable, '-c', {HOLD_100_MB!r}])"
    parent = f"import subprocess, sys; {HOLD_100_MB}; {child}"
    measured = run(Case("tree", None, (python(parent),)))
    assert 200e6 < measured.peak_bytes < 300e6


def test_a_past_peak_is_measured() -> None:
    measured = run(Case("short", None, (python(f"b'1' * 300_000_000; {BE_BUSY}"),)))
    assert 300e6 < measured.peak_bytes < 400e6


def test_a_failed_case_is_named_with_its_reason() -> None:
    failing = Case("failing", None, (python("pass"), python("raise SystemExit('no such file')")))
    with pytest.raises(ProcessFailedError, match=r"SystemExit.*exit code 1: no such file"):
        run(failing)


def test_cases_take_turns() -> None:
    order: list[str] = []
    cases = [Case(name, None, (python("pass"),)) for name in "AB"]
    runs = run_in_turn(cases, 2, lambda case, _: order.append(case.name))
    assert order == ["A", "B", "A", "B"]
    assert [len(runs[case]) for case in cases] == [2, 2]


def test_a_figure_sums_up_runs() -> None:
    runs = [Run(4.0, 5_000_000), Run(1.0, 7_000_000), Run(2.0, 6_000_000)]
    summed = figure(Case("x", 1_000, (), "forest"), runs)
    assert (summed.seconds, summed.least_seconds) == (2.0, 1.0)
    assert (summed.rows_per_second, summed.peak_mb, summed.runs) == (500.0, 7.0, 3)


@pytest.mark.parametrize(
    ("ratio", "holds"),
    [
        (Ratio("slower", 1.5, 1.5), True),
        (Ratio("slower", 1.51, 1.5), False),
        (Ratio("faster", 5.0, 5.0, at_most=False), True),
        (Ratio("faster", 4.9, 5.0, at_most=False), False),
        (Ratio("free", 9.0), None),
    ],
)
def test_a_ratio_is_compared_with_its_bound(ratio: Ratio, holds: bool | None) -> None:
    assert ratio.holds is holds
    assert ("MISSED" in render({}, [], [ratio])) is (holds is False)


@pytest.mark.parametrize("size", [6, 9, 16, 40])
def test_the_interval_of_a_centre_holds_it_in_most_samples(size: int) -> None:
    samples = np.random.default_rng(size).laplace(1.0, size=(2_000, size)).tolist()
    centres = np.array([centre_of(sample) for sample in samples])
    assert 0.94 <= np.mean((centres[:, 1] <= 1) & (centres[:, 2] >= 1)) <= 0.98
    assert abs(centres[:, 0].mean() - 1) < 0.02


def test_few_rows_are_not_compared_with_bounds() -> None:
    plans = [
        Plan(Inputs(Path(), Path(), Path(), rows), 1, (), False) for rows in (4_999_999, 5_000_000)
    ]
    assert [plan.bound(1.5) for plan in plans] == [None, 1.5]


def benchmarks(*options: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "benchmarks", "--json", "--repeat", "1", *options)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_without_the_transactions_the_rest_is_measured(tmp_path: Path) -> None:
    folders = ("--data", str(tmp_path / "nowhere"), "--work", str(tmp_path))
    done = benchmarks("--only", "workers,help", *folders)
    assert done.returncode == 0
    measured = json.loads(done.stdout)
    assert [figure["name"] for figure in measured["figures"]] == ["beam-fraud --help"]
    assert measured["ratios"][0]["bound"] == 0.5
    assert f"workers: no {tmp_path}/nowhere/creditcard.parquet, left out" in done.stderr


@pytest.mark.soak
def test_memory_of_few_rows_is_measured(source: Path, tmp_path: Path) -> None:
    """Measure rows without ids; those with ids are in the soak."""
    inputs = Inputs(source / "creditcard.parquet", Path(), tmp_path, 900)
    results = Results()
    measure_memory(Plan(inputs, 1, (), False), results)
    assert [figure.rows for figure in results.figures] == [900] * 2
    (ratio,) = results.ratios
    assert ratio.bound is None
    assert 0.5 < ratio.value < 2


@pytest.mark.soak
def test_upserts_go_into_every_database(tmp_path: Path) -> None:
    done = benchmarks("--rows", "300", "--only", "upserts", "--work", str(tmp_path))
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    left_out = "PostgreSQL, left out" in done.stderr
    assert len(measured["figures"]) == (3 if left_out else 6)
    assert all(ratio["bound"] is None for ratio in measured["ratios"])


@pytest.mark.soak
def test_every_part_runs(source: Path, tmp_path: Path) -> None:
    folders = ("--data", str(source), "--work", str(tmp_path / "work"))
    done = benchmarks("--rows", "900", "--seconds", "3", "--model", "forest", *folders)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    names = {figure["name"] for figure in measured["figures"]}
    ways = {"plain loop (a)", "beam-fraud score (b)", "row by row (c)"}
    others = {"memory, ids", "batch", "state, 1,000 rows", "score with velocity"}
    assert ways | others | {"memory, no ids", "beam-fraud --help"} <= names
    assert len(measured["ratios"]) > 3 + 2 + 1 + 1 + 1
    assert not (tmp_path / "work" / "out").exists()


def test_opening_a_bundle_is_timed_with_imports_and_without(bundle: Path) -> None:
    result = printed((sys.executable, "-m", "benchmarks.loading_run", str(bundle)))
    assert 0 < result["again"] < result["first"] < result["all"]


@pytest.mark.soak
def test_training_is_timed_from_the_file_to_the_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = "hist_gradient_boosting"
    monkeypatch.setattr(training, "KINDS", {kind: training.KINDS[kind]})
    monkeypatch.setattr(training, "_LOADS", 1)
    source = tmp_path / "handbook.parquet"
    pq.write_table(simulate(Simulation(15, 100, 200, start=date(2018, 7, 20))), source)
    results = Results()
    training.measure_training(Plan(Inputs(Path(), source, tmp_path, 0), 1, (), False), results)
    assert [figure.model for figure in results.figures] == [kind] * 4
    # So few transactions have no bound to keep; opening what they made has.
    assert [ratio.bound for ratio in results.ratios] == [None, 1.0]
    assert (tmp_path / "out" / f"training-{kind}" / "manifest.json").exists()


def test_flink_is_compared_with_its_bounds_on_many_rows() -> None:
    held = [ratio.holds for ratio in flink_batch_ratios(5_126_526, 40.0, 59.0, 44.0)]
    assert held == [True, True]
    missed = [ratio.holds for ratio in flink_batch_ratios(5_126_526, 40.0, 61.0, 50.0)]
    assert missed == [False, False]
    assert [ratio.holds for ratio in flink_batch_ratios(1_000, 1.0, 9.0, 9.0)] == [None, None]
