"""The examples and the Python of the README run."""

from __future__ import annotations

import ast
import doctest
import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.main import get_command

import beam_fraud as bf
from beam_fraud.cli.app import app
from beam_fraud.simulate.simulation import Simulation, simulate
from tests.serving import Serve

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Earlier and later transactions, a model of the earlier ones, and the scores of the later
    ones.
    """
    directory = tmp_path_factory.mktemp("examples")
    rows = simulate(Simulation(days=50, accounts=60, merchants=60))
    cut = int(0.8 * len(rows))
    before, today = rows.slice(0, cut), rows.slice(cut)
    model = bf.train(before, schema="handbook", settings={"trees": 20})
    scored = bf.score(today, model, history=before)
    paths = {name: str(directory / name) for name in ("before.jsonl", "day.jsonl", "bundle")}
    write_lines(paths["before.jsonl"], before)
    bad = {**today.slice(0, 1).to_pylist()[0], "TRANSACTION_ID": 1, "TX_AMOUNT": -5.0}
    write_lines(paths["day.jsonl"], pa.Table.from_pylist([*today.to_pylist(), bad]))
    model.save(paths["bundle"])
    keys = ("transaction_id", "score")
    lines = zip(*(scored.column(key).to_pylist() for key in keys), strict=True)
    return {**paths, "scores": json.dumps(dict(lines))}


def write_lines(path: str, rows: pa.Table) -> None:
    lines = (json.dumps(row, default=str) for row in rows.to_pylist())
    Path(path).write_text("\n".join(lines) + "\n")


def read_lines(start: Path) -> list[dict[str, object]]:
    parts = sorted(start.parent.glob(f"{start.name}-0*"))
    return [json.loads(line) for part in parts for line in part.read_text().splitlines()]


def test_the_notebook_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "notebook.py"))
    assert "average precision" in capsys.readouterr().out


def test_the_pipeline_gives_the_scores(files: dict[str, str], tmp_path: Path) -> None:
    main = runpy.run_path(str(EXAMPLES / "pipeline.py"))["main"]
    out = tmp_path / "out"
    main(
        [
            *("--transactions", files["day.jsonl"], "--history", files["before.jsonl"]),
            *("--model", files["bundle"], "--out", str(out)),
            *("--sink", f"sqlite:///{tmp_path / 'flagged.db'}"),
        ]
    )
    scored = {row["id"]: row["score"] for row in read_lines(out / "scores")}
    assert scored == json.loads(files["scores"])
    assert [row["reason"] for row in read_lines(out / "dead_letters")] == ["negative_amount"]
    assert (tmp_path / "flagged.db").exists()


def test_beam_yaml_gives_the_scores(files: dict[str, str], tmp_path: Path) -> None:
    # The extra `yaml` brings what Beam checks pipelines with.
    pytest.importorskip("jsonschema")
    from apache_beam.yaml import main

    out = tmp_path / "out"
    variables = {
        "TRANSACTIONS": files["day.jsonl"],
        "HISTORY": files["before.jsonl"],
        "MODEL": files["bundle"],
        "OUT": str(out),
    }
    main.run(
        [
            f"--yaml_pipeline_file={EXAMPLES / 'score.yaml'}",
            f"--jinja_variables={json.dumps(variables)}",
            "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
        ]
    )
    rows = read_parts(out, "scores")
    assert {row["transaction_id"]: row["score"] for row in rows} == json.loads(files["scores"])
    assert [row["reason"] for row in read_parts(out, "dead_letters")] == ["negative_amount"]


def test_load_is_sent_to_a_server(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = Path(files["day.jsonl"]).read_text().splitlines()
    for name, part in (("python.jsonl", lines[-40:]), ("shell.jsonl", lines[:40])):
        (tmp_path / name).write_text("\n".join(part) + "\n")
    main = runpy.run_path(str(EXAMPLES / "load.py"))["main"]
    history = ("--history", files["before.jsonl"])
    with Serve(Path(files["bundle"]), tmp_path / "state", *history) as server:
        url = f"http://127.0.0.1:{server.port}"
        main([str(tmp_path / "python.jsonl"), "--url", url, "--rate", "200"])
        done = subprocess.run(
            ["sh", EXAMPLES / "load.sh", tmp_path / "shell.jsonl", url],
            capture_output=True,
            text=True,
            check=True,
        )
        summary = server.stop()
    said = capsys.readouterr().out
    assert "40 requests" in said
    # The last row has a negative amount.
    assert re.search(r"^  422 +1$", said, re.M)
    assert re.search(r"^  p99 +[0-9.]+ ms$", said, re.M)
    assert re.search(r"^  status 200 +40$", done.stdout, re.M)
    assert re.search(r"^  p99 +[0-9.]+ ms$", done.stdout, re.M)
    assert (summary["rows_scored"], summary["rows_dead"]) == (79, 1)


def read_parts(directory: Path, name: str) -> list[dict[str, object]]:
    return [row for part in directory.glob(f"{name}-*") for row in pq.read_table(part).to_pylist()]


def test_the_dag_is_python_and_its_call_is_one_of_the_program() -> None:
    tree = ast.parse((EXAMPLES / "retrain_dag.py").read_text())
    texts = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    words = shlex.split(re.sub(r"{{ params\.(\w+) }}", r"\1", texts["RETRAIN"]))
    assert words[:3] == ["beam-fraud", "retrain", "archive"]
    group: Any = get_command(app)
    command = group.commands["retrain"]
    context = command.make_context("retrain", words[2:])
    assert context.params["registry"] == "registry"
    assert len(context.params["promote_if"]) == 2


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_python_of_a_page_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)
    assert blocks
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, page, page, 0)
    assert test.examples
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test, out=sys.stderr.write)
    assert runner.summarize(verbose=False).failed == 0
