"""The commands that the demo prints can be pasted."""

from __future__ import annotations

import shlex

from beam_fraud.cli.commands.demo import render


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
    assert [call[1] for call in calls] == ["alerts", "evaluate", "score", "serve", "score"]
    assert calls[0][2:] == ["list", "--sink", "sqlite:///my demo/flagged.db"]
    for call in calls[1:]:
        assert "--history" in call
    assert calls[1][2] == calls[2][2] == "my demo/new.parquet"
