"""The summary of `beam-fraud stream` over a watched directory."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.runner import PipelineResult, PipelineState

from beam_fraud.cli import main
from beam_fraud.cli.commands import stream
from beam_fraud.cli.commands.stream import run
from beam_fraud.cli.commands.train import run as train
from beam_fraud.cli.options import StreamOptions, TrainOptions
from beam_fraud.errors import Code
from beam_fraud.monitoring.waiting import Wait
from beam_fraud.runners import launch
from beam_fraud.runners.flink.job import FlinkJob
from beam_fraud.simulate.simulation import Simulation, simulate
from tests.cli.test_commands_score import bundle
from tests.failing import fails
from tests.fn_runner import until
from tests.sources.test_damage import coded, written


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 3])
def test_a_row_of_the_history_counts_once(inbox: Path, tmp_path: Path, shards: int) -> None:
    rows = simulate(Simulation(days=20, accounts=60, merchants=60, seed=3, fraud_rate=0.03))
    before = rows.slice(0, rows.num_rows - 500)
    model, history = tmp_path / "model", tmp_path / "history.parquet"
    repeated = before.slice(0, 7)
    pq.write_table(pa.concat_tables([before, repeated]), history)
    train(TrainOptions(files=(str(history),), schema="handbook", model="logistic", out=str(model)))
    pq.write_table(rows.slice(rows.num_rows - 500), inbox / "new.parquet")
    options = StreamOptions(
        watch=str(inbox),
        model=str(model),
        out=str(tmp_path / "out"),
        history=(str(history),),
        shards=shards,
        until_idle=0.5,
    )
    first = run(options)
    assert (first["rows_in"], first["rows_scored"]) == (500, 500)
    assert first["history_rows"] == before.num_rows
    assert first["history_rows_left_out"] == len(repeated)
    # It is in the state by now.
    assert "history_rows" not in run(options)


# `tests/test_extras.py` asks for the topics that need it.
def test_a_directory_is_watched_without_the_client_library_of_kafka(
    inbox: Path, tmp_path: Path
) -> None:
    model, out = bundle(tmp_path / "model"), tmp_path / "out"
    (inbox / "rows.csv").write_text("id,t,a\nx1,2024-01-01,1.5\nx2,2024-01-01,2.5\n")
    program = "import sys; sys.modules['confluent_kafka'] = None; "
    program += "from beam_fraud.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "stream", "--model", model, "--out", str(out)]
    watching = [*command, "--watch", str(inbox), "--until-idle", "0.5"]
    done = subprocess.run(watching, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.search(r"scored +2\n", done.stdout)


def test_a_stream_of_dead_letters_warns_at_its_end_and_fails_with_the_option(
    inbox: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = StreamOptions(
        watch=str(inbox),
        model=bundle(tmp_path / "model"),
        out=str(tmp_path / "out"),
        until_idle=0.2,
    )
    (inbox / "bad.csv").write_text("id,t,a\nx1,2024-01-01,ten\nx2,2024-01-01,eleven\n")
    with caplog.at_level(logging.WARNING):
        assert run(options)["rows_dead"] == 2
    assert (
        "none of 2 records is a transaction (2 wrong_type); first: bad.csv line 2: a:"
        in caplog.text
    )
    caplog.clear()
    (inbox / "few.csv").write_text("id,t,a\nx1,2024-01-01,ten\n" + "x2,2024-01-01,1\n" * 30)
    with caplog.at_level(logging.WARNING):
        run(options)
    assert "dead letters" not in caplog.text
    (inbox / "some.csv").write_text("id,t,a\nx3,2024-01-01,ten\nx4,2024-01-01,1\n")
    with fails(Code.ROWS_INVALID, r"^1 of 2 records .* --max-dead 0\.1"):
        run(replace(options, max_dead=0.1))
    # What came is kept all the same, and counted.
    scores = pq.read_table(tmp_path / "out/scores")["transaction_id"].to_pylist()
    assert sorted(scores) == ["x2", "x4"]
    assert json.loads((tmp_path / "out/summary.json").read_text())["rows_dead"] == 1


def test_damaged_files_end_no_stream_and_none_that_starts_again(
    inbox: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    roles = {"transaction_id": "id", "event_time": "t", "amount": "a", "account_id": "c"}
    options = StreamOptions(
        watch=str(inbox),
        model=bundle(tmp_path / "model", roles),
        out=str(tmp_path / "out"),
        until_idle=0.2,
    )
    table = pa.table(
        {
            "id": [f"x{number}" for number in range(60)],
            "t": ["2024-01-01T00:00:00Z"] * 60,
            "a": [1.0] * 60,
            "c": coded("a", "b", "c", codes=[2] * 60),
        }
    )
    index = written(table)
    # A run of 60 codes of two bits: the third of three.
    assert index.count(b"\x02\x78\x02") == 1
    (inbox / "1-index.parquet").write_bytes(index.replace(b"\x02\x78\x02", b"\x02\x78\x03"))
    name = written(table.append_column("caf\u00e9", table["a"]))
    (inbox / "2-name.parquet").write_bytes(name.replace("caf\u00e9".encode(), b"caf\xe9z"))
    (inbox / "3-good.csv").write_text("id,t,a,c\ny1,2024-01-01,1,a\n")
    first = run(options)
    assert (first["rows_scored"], first["rows_dead"]) == (1, 2)
    (inbox / "4-good.csv").write_text("id,t,a,c\ny2,2024-01-01,1,a\n")
    again = run(options)
    assert (again["rows_scored"], again["rows_dead"]) == (1, 0)
    dead = pq.read_table(tmp_path / "out/dead_letters").to_pylist()
    assert sorted(row["source"] for row in dead) == ["1-index.parquet", "2-name.parquet"]
    assert {row["reason"] for row in dead} == {"unreadable_file"}


@pytest.mark.parametrize(
    ("command", "safe"),
    [
        ("score {inbox} --out {out}", "{out} stays as it was until the end"),
        (
            "stream --watch {inbox} --out {out}",
            "0 rows of this run are stored, the stream goes on from there",
        ),
    ],
)
def test_a_wait_says_what_is_safe_meanwhile(
    command: str,
    safe: str,
    inbox: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def waits(*_: object) -> None:
        Wait(logging.getLogger("beam_fraud.test")).goes_on("database x: down")
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "run", waits)
    (inbox / "day.csv").write_text("id,t,a\nx1,2024-01-01,1\n")
    places = {"out": tmp_path / "out", "inbox": inbox}
    call = [*command.format(**places).split(), "--model", bundle(tmp_path / "model")]
    assert main(call) == 130
    assert f"database x: down; {safe.format(**places)}\n" in capsys.readouterr().err


def test_the_line_says_that_flink_restores(
    inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Restores(FlinkJob):
        """A job that restores until the line has said so."""

        def __init__(self) -> None:
            self.phase = "Flink restores file:/x"

        def wait_until_finish(self, duration: int | None = None) -> str:
            until(lambda: "streaming: Flink restores file:/x" in caplog.messages)
            return str(PipelineState.DONE)

    def runs(submission: object, build: object, waited: Callable[[PipelineResult], None]) -> None:
        waited(Restores())
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "run", runs)
    monkeypatch.setattr(stream, "live_line", partial(stream.live_line, line_every=0.001))
    given = StreamOptions(
        watch=str(inbox), model=bundle(tmp_path / "model"), out=str(tmp_path / "out")
    )
    with caplog.at_level(logging.INFO), pytest.raises(KeyboardInterrupt):
        run(given)
