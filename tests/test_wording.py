"""The commands in hints can be pasted."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from beam_fraud.alerts.queue import queue_flagged
from beam_fraud.cli import main
from beam_fraud.storage.database.connection import prepare_database, sqlite_url
from beam_fraud.wording import own_call
from tests.flagged import flagged_batch


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_hints_begin_as_the_program_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = program(tmp_path / "bin/beam-fraud")
    own = program(tmp_path / "my venv/bin/beam-fraud")
    python = program(tmp_path / "my venv/bin/python")
    monkeypatch.setenv("PATH", str(result.parent))
    monkeypatch.setattr(sys, "executable", str(python))
    called = {
        str(result): "beam-fraud",
        str(own): "'my venv/bin/beam-fraud'",
        "my venv/bin/beam-fraud": "'my venv/bin/beam-fraud'",
        "/x/beam_fraud/__main__.py": "'my venv/bin/python' -m beam_fraud",
        "/x/pytest": "beam-fraud",
    }
    for value, hint in called.items():
        monkeypatch.setattr(sys, "argv", [value, "demo"])
        assert own_call() == hint
    monkeypatch.setenv("PATH", str(python.parent))
    monkeypatch.setattr(sys, "argv", ["/x/beam_fraud/__main__.py"])
    assert own_call() == "python -m beam_fraud"
    monkeypatch.chdir(tmp_path.parent)
    monkeypatch.setattr(sys, "argv", ["/elsewhere/beam-fraud"])
    assert own_call() == "/elsewhere/beam-fraud"


def test_a_removed_working_directory_fails_no_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    shutil.rmtree(gone)
    monkeypatch.setattr(sys, "argv", ["bin/beam-fraud"])
    assert own_call() == "beam-fraud"


def test_errors_name_commands_as_the_program_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    python = program(tmp_path / "venv/bin/python")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(sys, "argv", ["/x/beam_fraud/__main__.py"])
    outbox = sqlite_url(tmp_path / "outbox.db")
    prepare_database(outbox)
    queue_flagged(outbox, flagged_batch(["a"]), ["console"])
    (tmp_path / "rows.csv").write_text("a\n1\n")
    (tmp_path / "bundle").mkdir()
    calls = {
        "see %s score --help": ["score", "--zzz"],
        "see %s train --help": ["train"],
        "see %s --help": ["nothing"],
        "`%s train` makes one": ["score", "rows.csv", "--model", "bundle", "--out", "out"],
        "see %s dead-letters replay --help": ["dead-letters", "replay", "out"],
        "`%s alerts list` shows": f"alerts resend --sink {outbox} --id x --alert console:".split(),
    }
    for hint, call in calls.items():
        assert main(call) != 0
        message = capsys.readouterr().err
        assert message.startswith("beam-fraud: ")
        assert hint % "venv/bin/python -m beam_fraud" in message
