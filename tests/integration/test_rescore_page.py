"""The worked example of docs/rescore.md does what the page says."""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
from pathlib import Path

import pytest

from beam_fraud.cli import main

PAGE = Path(__file__).resolve().parents[2] / "docs/rescore.md"
pytestmark = pytest.mark.slow


def test_the_worked_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text("utf-8").replace("\\\n", "")
    example = text[: text.index("## Partitions")]
    blocks = re.findall(r"^```sh\n(.*?)^```$(?:\n\n^```\n(.*?)^```$)?", example, re.M | re.S)
    assert len(blocks) == 5
    for commands, shown in blocks:
        printed = ""
        for command in commands.strip().splitlines():
            code = main(shlex.split(command)[1:])
            printed, errors = capfd.readouterr()
            assert code == 0, errors
        for line in shown.splitlines():
            # Figures of partitions, rows and time; the rest depends on versions of libraries.
            fact = re.match(r"(partitions|  to score|  for windows|rows|rows read) +[0-9].*", line)
            if fact:
                assert fact[0] in printed
    summary = json.loads((tmp_path / "rescored/summary.json").read_text())
    assert summary["partitions"]["scored"] == 0
    [rows] = summary["backfill"].values()
    with sqlite3.connect(tmp_path / "flagged.db") as database:
        [(flagged,)] = database.execute("SELECT count(*) FROM flagged_transactions")
        [(alerts,)] = database.execute("SELECT count(*) FROM alerts")
    assert (rows, alerts) == (flagged, 0)
    assert flagged == summary["rows_flagged"] > 0
    assert (tmp_path / "rescored/comparison.html").is_file()
