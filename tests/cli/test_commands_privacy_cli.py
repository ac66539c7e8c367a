"""The command line of dead letters and erasures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from beam_fraud.cli import main
from beam_fraud.cli.app import app
from beam_fraud.cli.commands import replay, score
from tests.cli.test_commands_replay import export, scored


def test_a_dead_letter_is_exported_repaired_and_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(scored(tmp_path))
    capsys.readouterr()
    assert main(["dead-letters", "list", out, "--reason", "wrong_type", "--payload"]) == 0
    message = capsys.readouterr().out
    assert message.splitlines()[0].split()[:3] == ["dead", "letters", "1"]
    assert message.endswith(
        "day.csv line 3, wrong_type a: not of the type it should be: 'ten' x2,2024-01-02,ten\n"
    )
    file = str(tmp_path / "r.jsonl")
    assert main(["dead-letters", "export", out, "--to", file, "--reason", "wrong_type"]) == 0
    assert "so personal data" in capsys.readouterr().out
    row = json.loads(Path(file).read_text())
    assert row == {
        "source": "day.csv",
        "position": 1,
        "reason": "wrong_type",
        "detail": "line 3, a: not of the type it should be",
        "payload": "x2,2024-01-02,ten",
    }
    Path(file).write_text(json.dumps(row | {"payload": "x2,2024-01-02,10"}))
    call = ["dead-letters", "replay", out, "--from", file, "--model", str(tmp_path / "model")]
    assert main([*call, "--out", str(tmp_path / "again"), "--alert", "console:"]) == 0
    message = capsys.readouterr()
    assert "offered                  1" in message.out
    assert "ALERT review" in message.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give --model or --registry, and --out; or --to-topic"),
        (["--model", "m"], "give --model or --registry, and --out; or --to-topic"),
        (["--to-topic", "t"], "--to-topic: name the broker as --kafka HOST:PORT"),
        (["--to-topic", "t", "--model", "m"], "--to-topic: the stream scores them; leave"),
        (["--sink", "parquet:x"], "--sink: undelivered rows go to a database; or give --model"),
        (["--from", "f", "--reason", "r", "--model", "m", "--out", "o"], "--from: takes every"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_an_invalid_replay_is_a_usage_error(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    out = scored(tmp_path)
    export(tmp_path).rename(tmp_path / "f")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    (tmp_path / "model").rename(tmp_path / "m")
    assert main(["dead-letters", "replay", str(out), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_undelivered_rows_need_their_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = scored(tmp_path)
    capsys.readouterr()
    call = ["dead-letters", "replay", str(out), "--sink", f"sqlite:///{tmp_path}/x.db"]
    assert main(call) == 1
    message = capsys.readouterr().err
    assert message == f"beam-fraud: {out}: no rows wait there for a database [BF225]\n"


def test_alerts_of_a_replay_have_pseudonyms_with_the_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEAM_FRAUD_PSEUDONYM_KEY", "k" * 32)
    out, alerts = str(scored(tmp_path)), tmp_path / "alerts.jsonl"
    file = str(tmp_path / "r.jsonl")
    assert main(["dead-letters", "export", out, "--to", file, "--reason", "wrong_type"]) == 0
    Path(file).write_text(Path(file).read_text().replace("ten", "10"))
    call = ["dead-letters", "replay", out, "--from", file, "--model", str(tmp_path / "model")]
    call += ["--out", str(tmp_path / "again"), "--alert", f"file:{alerts}"]
    assert main([*call, "--pseudonymise"]) == 0
    (line,) = alerts.read_text().splitlines()
    assert json.loads(line)["transaction_id"] != "x2"
    assert "x2" not in line


def options_of(*path: str) -> dict[str, tuple[str, str | None, object]]:
    """Return the options of a command: parameter, call, help and default."""
    result: Any = typer.main.get_command(app)
    for name in path:
        result = result.commands[name]
    return {
        parameter.opts[-1]: (parameter.name, parameter.help, parameter.default)
        for parameter in result.params
        if parameter.param_type_name == "option"
    }


def test_a_replay_has_every_option_of_score() -> None:
    of_score, of_replay = options_of("score"), options_of("dead-letters", "replay")
    assert {"--pseudonymise", "--alert", "--max-dead", "--sink-patience"} <= of_score.keys()
    assert of_score.keys() - of_replay.keys() == set()
    # Its own words: a replay may go to a topic instead, and takes records where `score` takes rows.
    own = {"--out", "--limit"}
    shared = of_score.keys() - own
    assert {name: of_replay[name] for name in shared} == {name: of_score[name] for name in shared}


def test_a_replay_passes_every_option_to_score(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each scalar option another value than its default, and set each flag."""
    seen: list[Any] = []
    for module in (score, replay):
        monkeypatch.setattr(module, "run", lambda options: seen.append(options) or {})
        monkeypatch.setattr(module, "render", str)
    arguments = ["--schema", "s", "--sink", "k", "--sink-patience", "1s", "--alert", "console:"]
    arguments += ["--alert-patience", "2s", "--pseudonymise", "--rules", "r", "--reasons", "1"]
    arguments += ["--history", "h", "--workers", "2", "--dedupe", "run", "--block-rows", "7"]
    arguments += ["--max-dead", "0.25", "--dry-run", "--model", "m", "--out", "o"]
    arguments += ["--archive", "a", "--registry", "g", "--lists", "l", "--keep-features"]
    arguments += ["--shadow", "c", "--max-microseconds", "9", "--audit-share", "1%", "--link", "l"]
    # Those of Beam and of every command, and the rows that `--limit` bounds, aside.
    every = {"--json", "--log-level", "--log-format", "--log-file", "--limit"}
    assert options_of("score").keys() - every == {arg for arg in arguments if arg[:2] == "--"}
    assert main(["score", "f", *arguments]) == 0
    assert main(["dead-letters", "replay", "d", *arguments]) == 0
    assert vars(seen[1].scoring(("f",), "o")) == vars(seen[0])
    assert seen[1].pseudonymise


def test_options_of_beam_reach_a_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(replay, "run", lambda options: seen.append(options) or {})
    monkeypatch.setattr(replay, "render", str)
    call = ["dead-letters", "replay", "d", "--model", "m", "--out", "o", "--runner=FnApiRunner"]
    assert main(call) == 0
    assert seen[0].scoring(("f",), "o").beam_args == ("--runner=FnApiRunner",)
