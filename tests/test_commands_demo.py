"""What the demo prints is what its reader can paste."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from beam_fraud.commands.demo import own_call, render


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_hints_begin_as_the_program_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = program(tmp_path / "bin/beam-fraud")
    own = program(tmp_path / "my venv/bin/beam-fraud")
    python = program(tmp_path / "my venv/bin/python")
    monkeypatch.setenv("PATH", str(found.parent))
    monkeypatch.setattr(sys, "executable", str(python))
    called = {
        str(found): "beam-fraud",
        str(own): "'my venv/bin/beam-fraud'",
        "my venv/bin/beam-fraud": "'my venv/bin/beam-fraud'",
        "/x/beam_fraud/__main__.py": "'my venv/bin/python' -m beam_fraud",
        "/x/pytest": "beam-fraud",
    }
    for given, hint in called.items():
        monkeypatch.setattr(sys, "argv", [given, "demo"])
        assert own_call() == hint
    monkeypatch.setenv("PATH", str(python.parent))
    monkeypatch.setattr(sys, "argv", ["/x/beam_fraud/__main__.py"])
    assert own_call() == "python -m beam_fraud"
    monkeypatch.chdir(tmp_path.parent)
    monkeypatch.setattr(sys, "argv", ["/elsewhere/beam-fraud"])
    assert own_call() == "/elsewhere/beam-fraud"


def test_hints_quote_paths_and_give_the_history() -> None:
    text = render(
        {
            "out": "my demo",
            "simulated": {"history": 1200, "new": 300},
            "scored": {"model_id": "m@1", "rows_scored": 300, "rows_flagged": 92},
            "evaluated": {"confusion": {"tp": 80, "fn": 65, "fp": 12}},
            "seconds": 1.5,
        }
    )
    assert "All 92 alerts" in text
    calls = [shlex.split(line) for line in text.splitlines() if line.startswith("  beam-fraud ")]
    assert [call[1] for call in calls] == ["alerts", "evaluate", "score", "score"]
    assert calls[0][2:] == ["list", "--sink", "sqlite:///my demo/flagged.db"]
    for call in calls[1:]:
        assert "--history" in call
    assert calls[1][2] == calls[2][2] == "my demo/new.parquet"
