"""A server and a batch make the same features of the same rows; `skew` shows if they do not."""

from __future__ import annotations

from pathlib import Path

from beam_fraud.cli.commands import score, skew
from beam_fraud.cli.options import ScoreOptions, SkewOptions
from tests.serve.conftest import Served
from tests.serve.running import Running


def scored(served: Served, out: Path, *, history: bool) -> str:
    """Score the later rows; return `--out`."""
    score.run(
        ScoreOptions(
            files=(served.later,),
            model=served.bundle,
            rules=served.rules,
            history=(served.history,) if history else (),
            out=str(out),
            keep_features=True,
        )
    )
    return str(out)


def test_answers_and_scores_have_the_same_features(served: Served, tmp_path: Path) -> None:
    running = Running(served, tmp_path / "served", keep_features=True)
    engine = running.engine()
    for start in range(0, len(served.records), 50):
        engine.record(served.records[start : start + 50])
        engine.state.commit()
    engine.state.close(1.0)
    answered = str(running.directory)
    same = skew.run(
        SkewOptions(first=answered, second=scored(served, tmp_path / "batch", history=True))
    )
    assert same["pairs"] == len(served.records)
    assert (same["rows_differ"], same["only_in_first"], same["only_in_second"]) == (0, 0, 0)
    assert same["figures"]["scores_differ"] == 0
    empty = skew.run(
        SkewOptions(first=answered, second=scored(served, tmp_path / "empty", history=False))
    )
    differing = {one["name"] for one in empty["columns"] if one["differ"]}
    assert "account_count_30d" in differing
    assert "amount" not in differing
