"""The installed commands in a shell."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from beam_fraud.cli import main

BIN = Path(sys.executable).parent


def shell(command: str, where: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in a directory with the installed commands on PATH."""
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=where,
        env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.soak
def test_from_simulation_to_scores(tmp_path: Path) -> None:
    done = shell(
        """
        beam-fraud simulate --out data/month.csv --days 30 --accounts 200 --merchants 200 \
            --fraud-rate 0.03 --seed 1
        beam-fraud train data/month.csv --schema handbook --model forest --set trees=20 \
            --out models/first
        beam-fraud score 'data/*.csv' --model models/first --out scored --json \
            --sink sqlite:///flagged.db --alert file:alerts.jsonl > summary.json
        beam-fraud evaluate data/month.csv --model models/first --json > figures.json
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    figures = json.loads((tmp_path / "figures.json").read_text())
    scored = pq.read_table(tmp_path / "scored/scores")
    alerts = [json.loads(line) for line in (tmp_path / "alerts.jsonl").read_text().splitlines()]
    assert summary["rows_in"] == summary["rows_scored"] == scored.num_rows > 1000
    assert summary["rows_flagged"] == len(alerts) > 0
    assert figures["confusion"]["tp"] + figures["confusion"]["fp"] == len(alerts)
    assert summary["model_id"] == figures["model_id"]
    assert summary["model_id"].startswith("first@")
    assert {alert["transaction_id"] for alert in alerts} == {
        row["transaction_id"] for row in scored.to_pylist() if row["flagged"]
    }


def test_files_are_scored_as_they_arrive_and_none_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    simulate = "simulate --days 20 --accounts 200 --merchants 200 --fraud-rate 0.03"
    stream = (
        "stream --watch inbox --model models/cards --history january.csv --out watched "
        "--sink sqlite:///watched.db --alert console: --until-idle 1 --json"
    )
    (tmp_path / "inbox").mkdir()
    for command in (
        f"{simulate} --out january.csv",
        "train january.csv --schema handbook --model forest --set trees=20 --out models/cards",
        f"{simulate} --out inbox/february.csv --start 2024-02-01 --seed 1",
    ):
        assert main(shlex.split(command)) == 0
    capfd.readouterr()
    assert main(shlex.split(stream)) == 0
    printed, said = capfd.readouterr()
    # The second one resumes in a process of its own.
    done = shell(f"beam-fraud {stream}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    first, second = json.loads(printed), json.loads(done.stdout)
    assert first["rows_in"] == first["rows_scored"] > 1000
    assert first["history_rows"] == len((tmp_path / "january.csv").read_text().splitlines()) - 1
    assert first["alerts"] == {"sent": first["rows_flagged"], "waiting": 0, "snoozed": 0}
    assert said.count("ALERT") == first["rows_flagged"] > 0
    assert second["rows_in"] == 0
    assert pq.read_table(tmp_path / "watched/scores").num_rows == first["rows_scored"]


def test_failures_are_one_line_and_an_exit_code(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shell(f"cp -r {bundle} changed; printf x >> changed/model.joblib", tmp_path)
    (tmp_path / "wrong.csv").write_text(
        "TRANSACTION_ID,TX_DATETIME,CUSTOMER_ID,TERMINAL,TX_AMOUNT\n"
    )
    (tmp_path / "not.parquet").write_text("no Parquet at all")
    cases = {
        f"wrong.csv --model {bundle}": (1, ["wrong.csv", "'TERMINAL_ID'", "'TERMINAL'"]),
        f"not.parquet --model {bundle}": (1, ["not.parquet", "not a parquet file"]),
        f"absent.csv --model {bundle}": (1, ["absent.csv", "no such file"]),
        f"wrong.csv --model {bundle} --wokers 2": (2, ["--wokers", "did you mean --workers?"]),
        f"wrong.csv --model {bundle} --sink redis://x": (2, ["--sink", "redis"]),
        "wrong.csv --model changed": (1, ["changed", "model.joblib"]),
        "wrong.csv --model nothing": (1, ["nothing", "not a model bundle"]),
    }
    in_a_shell = {1: next(iter(cases)), 2: f"wrong.csv --model {bundle} --wokers 2"}
    monkeypatch.chdir(tmp_path)
    for arguments, (code, message) in cases.items():
        command = f"score {arguments} --out out"
        capfd.readouterr()
        ends = [(main(shlex.split(command)), *capfd.readouterr())]
        if in_a_shell[code] == arguments:
            done = shell(f"beam-fraud {command}", tmp_path)
            ends.append((done.returncode, done.stdout, done.stderr))
        for came, printed, said in ends:
            lines = said.splitlines()
            assert came == code, (arguments, said)
            assert len(lines) == 1, (arguments, said)
            assert all(words in lines[0] for words in message), lines[0]
            assert printed == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_demo_finds_frauds_and_answers_transactions(tmp_path: Path) -> None:
    errors = tmp_path / "errors.log"
    with errors.open("wb") as log:
        demo = subprocess.Popen(
            [str(BIN / "beam-fraud"), "demo", "--serve"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    said = ""
    try:
        assert demo.stdout is not None
        for line in demo.stdout:
            said += line
            if line.startswith("  curl "):
                break
        assert said.endswith(line), errors.read_text()
        first, again = shell(line, tmp_path), shell(line, tmp_path)
    finally:
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=60)
    assert first.returncode == 0, first.stderr
    answer = json.loads(first.stdout)
    assert 0 <= answer["score"] <= 1
    assert answer["decision"] in ("approve", "review", "decline")
    assert again.stdout == first.stdout
    assert demo.returncode == 0, errors.read_text()
    assert "Answered 1 transactions" in rest
    assert "Try next" in said
    assert errors.read_text().count("ALERT") == 5 + answer["flagged"]
    scored = pq.read_table(tmp_path / "demo/scored/scores")
    assert scored.num_rows > 10_000
    served = pq.read_table(tmp_path / "demo/served/scores").to_pylist()
    assert [row["transaction_id"] for row in served] == [answer["transaction_id"]]
    assert served[0]["account_id"] in scored.column("account_id").to_pylist()
