"""The commands over dead letters and erasures, as they are called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from beam_fraud.cli import main
from tests.test_commands_replay import export, scored


def test_the_way_from_a_dead_letter_to_a_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(scored(tmp_path))
    capsys.readouterr()
    assert main(["dead-letters", "list", out, "--reason", "wrong_type", "--payload"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0].split()[:3] == ["dead", "letters", "1"]
    assert said.endswith("day.csv:1 wrong_type a: not of the type it should be x2,2024-01-02,ten\n")
    file = str(tmp_path / "r.jsonl")
    assert main(["dead-letters", "export", out, "--to", file, "--reason", "wrong_type"]) == 0
    assert "so personal data" in capsys.readouterr().out
    row = json.loads(Path(file).read_text())
    assert row == {
        "source": "day.csv",
        "position": 1,
        "reason": "wrong_type",
        "detail": "a: not of the type it should be",
        "payload": "x2,2024-01-02,ten",
    }
    Path(file).write_text(json.dumps(row | {"payload": "x2,2024-01-02,10"}))
    call = ["dead-letters", "replay", out, "--from", file, "--model", str(tmp_path / "model")]
    assert main([*call, "--out", str(tmp_path / "again"), "--alert", "console:"]) == 0
    said = capsys.readouterr()
    assert "offered                  1" in said.out
    assert "ALERT review" in said.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "give --model and --out, or --to-topic"),
        (["--model", "m"], "give --model and --out, or --to-topic"),
        (["--to-topic", "t"], "--to-topic: name the broker as --kafka HOST:PORT"),
        (["--to-topic", "t", "--model", "m"], "--to-topic: the stream scores them; leave"),
        (["--sink", "parquet:x"], "--sink: undelivered rows go to a database; or give --model"),
        (["--from", "f", "--reason", "r", "--model", "m", "--out", "o"], "--from: takes every"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_a_replay_that_cannot_be_meant_is_a_wrong_call(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    said: str,
) -> None:
    out = scored(tmp_path)
    export(tmp_path).rename(tmp_path / "f")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    (tmp_path / "model").rename(tmp_path / "m")
    assert main(["dead-letters", "replay", str(out), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_undelivered_rows_need_a_place_where_they_wait(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = scored(tmp_path)
    capsys.readouterr()
    call = ["dead-letters", "replay", str(out), "--sink", f"sqlite:///{tmp_path}/x.db"]
    assert main(call) == 1
    assert capsys.readouterr().err == f"beam-fraud: {out}: no rows wait there for a database\n"
