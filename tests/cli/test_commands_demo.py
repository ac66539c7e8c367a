"""The commands that the demo prints can be pasted."""

from __future__ import annotations

import shlex
from pathlib import Path

from beam_fraud.cli.commands import demo
from beam_fraud.cli.options import DemoOptions
from beam_fraud.errors import Code
from beam_fraud.storage.stream_outputs import ServerOutputs
from tests.failing import fails


def test_hints_quote_paths_and_give_the_history() -> None:
    text = demo.render(
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
    assert [call[1] for call in calls] == ["alerts", "evaluate", "score", "serve", "score"]
    assert calls[0][2:] == ["list", "--sink", "sqlite:///my demo/flagged.db"]
    for call in calls[1:]:
        assert "--history" in call
    assert calls[1][2] == calls[2][2] == "my demo/new.parquet"


def test_a_port_needs_a_server(tmp_path: Path) -> None:
    with fails(Code.OPTION_CONFLICT, "--port 8000"):
        demo.call(DemoOptions(out=str(tmp_path / "demo"), port=8000), as_json=False)
    assert not (tmp_path / "demo").exists()


def test_one_of_the_two_servers_runs(tmp_path: Path) -> None:
    with fails(Code.OPTION_CONFLICT, "--review"):
        options = DemoOptions(out=str(tmp_path / "demo"), serve=True, review=True)
        demo.call(options, as_json=False)
    assert not (tmp_path / "demo").exists()


def test_a_server_that_runs_keeps_its_state(tmp_path: Path) -> None:
    served = ServerOutputs(tmp_path / "served")
    served.begin()
    served.checkpoint.touch()
    try:
        with fails(Code.OUTPUT_IN_USE, "served"):
            demo.call(DemoOptions(out=str(tmp_path)), as_json=False)
        assert served.checkpoint.exists()
    finally:
        served.release()
