"""Decisions by scores and rules."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.decisions.decision import decide, decided_columns, decided_rows
from beam_fraud.decisions.rules.condition import Always
from beam_fraud.decisions.rules.rule import Fired, Rule, Verdict
from beam_fraud.models.manifest import Thresholds
from beam_fraud.schema.stages import SCORED
from beam_fraud.sources.raw import Origin, origin_of, with_origin
from beam_fraud.storage.parquet_writer import ParquetBlockWriter


def scored(origin: Origin | None) -> pa.RecordBatch:
    schema = pa.schema([SCORED.field(name) for name in SCORED.names[:5]])
    rows = [
        {
            "transaction_id": name,
            "event_time": 0,
            "account_id": "a",
            "merchant_id": "m",
            "amount": 1,
        }
        for name in "abc"
    ]
    transactions = pa.RecordBatch.from_pylist(
        rows, schema=schema if origin is None else with_origin(schema, origin)
    )
    scores = np.array([0.1, 0.5, 0.9])
    return decide(transactions, scores, Thresholds(review=0.5, decline=0.9), "m@1")


def test_a_score_at_a_threshold_is_over_it() -> None:
    batch = scored(None)
    assert batch.schema.equals(SCORED, check_metadata=True)
    assert batch.column("decision").to_pylist() == ["approve", "review", "decline"]
    assert batch.column("flagged").to_pylist() == [False, True, True]


def test_the_origin_of_the_transactions_stays_with_their_scores() -> None:
    origin = Origin("tx:0", "jsonl", appended=1_700_000_000_000)
    batch = scored(origin)
    assert batch.schema.equals(SCORED)
    assert origin_of(batch) == origin
    assert origin_of(batch.filter(batch.column("flagged"))) == origin


def test_batches_of_several_origins_go_to_one_file_that_names_none(tmp_path: Path) -> None:
    writer = ParquetBlockWriter(tmp_path / "part-0.parquet", SCORED)
    # More than are joined at once.
    for number in range(600):
        writer.write(scored(Origin("tx:0", "jsonl", block=number, appended=number)))
    assert writer.close() == 1_800
    written = pq.read_schema(tmp_path / "part-0.parquet")
    assert written.equals(SCORED)
    assert written.metadata is None


def rule(name: str, decision: Verdict, priority: int = 0) -> Rule:
    return Rule(name, Always(True), decision, priority)


def decided(score: float, *rules: Rule, silent: tuple[Rule, ...] = ()) -> tuple[str, list[str]]:
    """Return the decision on a row for which only `rules` hold."""
    everything = sorted((*rules, *silent), key=lambda rule: -rule.priority)
    holds = np.array([[False, rule in rules, False] for rule in everything], dtype=bool)
    thresholds = Thresholds(review=0.5, decline=0.9)
    scores = np.array([0.0, score, 0.9])
    result = decided_columns(scores, thresholds, Fired(tuple(everything), holds))
    assert result["decision"].to_pylist()[::2] == ["approve", "decline"]
    assert result["rules"].to_pylist()[::2] == [[], []]
    decision = result["decision"][1].as_py()
    assert result["flagged"][1].as_py() is (decision != "approve")
    return decision, result["rules"][1].as_py()


REVIEW, DECLINE = rule("review", "review"), rule("decline", "decline")
PASS = rule("pass", "approve", 5)


@pytest.mark.parametrize(
    ("score", "rules", "decision"),
    [
        (0.1, (REVIEW,), "review"),
        (0.1, (DECLINE,), "decline"),
        (0.1, (REVIEW, DECLINE), "decline"),
        (0.9, (REVIEW,), "decline"),
        (0.9, (PASS,), "approve"),
        (0.9, (PASS, DECLINE), "approve"),
        (0.9, (PASS, rule("same", "review", 5)), "review"),
        (0.1, (PASS, rule("higher", "decline", 6), REVIEW), "decline"),
        (0.9, (PASS, rule("pass on", "approve", 9), rule("between", "decline", 7)), "approve"),
        (0.9, (), "decline"),
        (0.5, (), "review"),
    ],
)
def test_rules_raise_and_an_approving_one_overrules_lower_priorities(
    score: float, rules: tuple[Rule, ...], decision: str
) -> None:
    others = (rule("silent pass", "approve", 99), rule("silent", "decline", 98))
    result, names = decided(score, *rules, silent=others)
    assert result == decision
    assert names == [r.name for r in sorted(rules, key=lambda rule: -rule.priority)]


def test_an_empty_batch_has_no_decisions() -> None:
    fired = Fired((REVIEW,), np.zeros((1, 0), dtype=bool))
    result = decided_columns(np.zeros(0), Thresholds(0.5), fired)
    assert {name: len(column) for name, column in result.items()} == {
        "flagged": 0, "decision": 0, "rules": 0,
    }  # fmt: skip
    assert result["rules"].type == SCORED.field("rules").type


def test_a_threshold_to_decline_from_is_not_below_that_of_review() -> None:
    with pytest.raises(ValueError, match=r"decline 0\.4 is below review 0\.5"):
        Thresholds(0.5, 0.4)


def test_rules_in_shadow_are_recorded_and_have_no_effect() -> None:
    live = (rule("live", "review", 1), rule("other", "review"))
    tried = (
        replace(rule("stop", "decline", 9), mode="shadow"),
        replace(rule("free", "approve", 8), mode="shadow"),
    )
    holds = np.random.default_rng(0).random((4, 400)) < 0.4
    scores = np.random.default_rng(1).random(400)
    thresholds = Thresholds(0.5, 0.9)
    every = Fired((*tried, *live), holds, "rules@1")
    alone = decided_columns(scores, thresholds, Fired(live, holds[2:], "rules@1"))
    together = decided_columns(scores, thresholds, every)
    assert together == alone
    expected = [
        [name for name, fires in zip(("stop", "free"), row, strict=True) if fires]
        for row in holds[:2].T
    ]
    transactions = scored(Origin("tx:0", "jsonl", 0, 0)).select(SCORED.names[:5])
    rows = transactions.take(pa.array(np.zeros(400, dtype=np.int64)))
    table = decide(rows, scores, thresholds, "m@1", every)
    assert table.column("shadow_rules").to_pylist() == expected
    assert set(table.column("rules_id").to_pylist()) == {"rules@1"}
    by_values = decided_rows(scores, thresholds, every)
    assert [row.shadow_rules for row in by_values] == expected
    assert [row.rules for row in by_values] == alone["rules"].to_pylist()
    assert [row.decision for row in by_values] == alone["decision"].to_pylist()
