"""Two rule sets on the same rows: each figure is what a count over single rows gives."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from beam_fraud.decisions.decision import decided_columns
from beam_fraud.decisions.rules.condition import vocabulary
from beam_fraud.decisions.rules.difference import rules_difference
from beam_fraud.decisions.rules.program import Program
from beam_fraud.decisions.rules.rule import RuleSet
from beam_fraud.decisions.rules.toml import rules_from_toml
from beam_fraud.evaluation.comparison.rule_sets import RuleSetComparison, RuleSetsCompared
from beam_fraud.evaluation.comparison.rule_sets_report import report_bytes
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.manifest import Thresholds
from beam_fraud.schema.presets import HANDBOOK

NAMES = vocabulary(HANDBOOK, scored=True)
THRESHOLDS = Thresholds(0.7, 0.95)
ROWS = 4_000


def rule(name: str, when: str, decision: str, **more: object) -> str:
    lines = [f'name = "{name}"', f'when = "{when}"', f'decision = "{decision}"']
    lines += [f"{key} = {value}" for key, value in more.items()]
    return "\n".join(["[[rule]]", *lines, ""])


LARGE = rule("large", "amount > 150", "review")
SMALL = rule("small", "amount < 5 and score > 0.4", "review", rollout=50)
TRUSTED = rule("trusted", "merchant_id == 'm1'", "approve", priority=2)
NIGHT = rule("night", "amount > 60 and merchant_id == 'm2'", "decline")
OLD = LARGE + SMALL + TRUSTED
NEW = (
    LARGE.replace("150", "120")
    + TRUSTED
    + NIGHT
    + rule("tried", "amount > 10", "decline", mode='"shadow"')
)


def rules_of(text: str) -> RuleSet:
    return rules_from_toml(text, NAMES)


def rows() -> tuple[pa.RecordBatch, np.ndarray, np.ndarray]:
    random = np.random.default_rng(4)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    batch = pa.record_batch(
        {
            "transaction_id": [f"t{n}" for n in range(ROWS)],
            "event_time": pa.array(
                [start + timedelta(minutes=n) for n in range(ROWS)], pa.timestamp("us", "UTC")
            ),
            "account_id": [f"a{n}" for n in random.integers(300, size=ROWS)],
            "merchant_id": [f"m{n}" for n in random.integers(9, size=ROWS)],
            "amount": np.round(random.gamma(2, 40, ROWS), 2),
        }
    )
    labels = random.choice([-1, 0, 1], ROWS, p=[0.2, 0.7, 0.1]).astype(np.int8)
    return batch, random.random(ROWS), labels


def decisions(text: str | None) -> np.ndarray:
    batch, scores, _ = rows()
    fired = None
    if text is not None:
        program = Program(rules_of(text), FeatureSet(HANDBOOK, order=("amount",)))
        fired = program.fired(batch, np.zeros((ROWS, 1)), scores)
    return np.array(decided_columns(scores, THRESHOLDS, fired)["decision"].to_pylist())


def compared(old: str | None, new: str | None, size: int = ROWS) -> RuleSetsCompared:
    batch, scores, labels = rows()
    sets = [None if text is None else rules_of(text) for text in (old, new)]
    features = FeatureSet(HANDBOOK, order=("amount",))
    comparison = RuleSetComparison(rules_difference(*sets), THRESHOLDS)
    for start in range(0, ROWS, size):
        part, own = batch.slice(start, size), scores[start : start + size]
        fired = [
            None
            if one is None
            else Program(one, features).fired(part, np.zeros((len(part), 1)), own)
            for one in sets
        ]
        comparison.add(part, own, labels[start : start + size], *fired)
    return comparison.figures("old", "new", "m@1")


@pytest.mark.parametrize("size", [ROWS, 700])
def test_swaps_and_transitions_are_those_of_single_rows(size: int) -> None:
    found, (batch, _, labels) = compared(OLD, NEW, size), rows()
    before, after = decisions(OLD), decisions(NEW)
    amounts = np.asarray(batch.column("amount"))
    newly = (before == "approve") & (after != "approve")
    assert found.only_new.rows == newly.sum() > 0
    assert found.only_new.amount == pytest.approx(amounts[newly].sum())
    assert found.only_new.frauds == (newly & (labels == 1)).sum() > 0
    assert found.only_new.genuine == (newly & (labels == 0)).sum()
    assert found.only_old.rows == ((before != "approve") & (after == "approve")).sum() > 0
    assert (found.flagged_old, found.flagged_new) == (
        (before != "approve").sum(),
        (after != "approve").sum(),
    )
    assert {(one.old, one.new): one.rows.rows for one in found.transitions} == {
        (one, other): count
        for one in ("approve", "review", "decline")
        for other in ("approve", "review", "decline")
        if one != other and (count := ((before == one) & (after == other)).sum())
    }
    assert found.otherwise.rows == (before != after).sum()
    assert (found.rows, found.labelled, found.frauds) == (
        ROWS,
        (labels >= 0).sum(),
        (labels == 1).sum(),
    )


def test_each_change_alone_is_that_of_the_old_rules_with_it() -> None:
    found, before = compared(OLD, NEW), decisions(OLD)
    alone = {
        "large": OLD.replace("150", "120"),
        "small": LARGE + TRUSTED,
        "night": OLD + NIGHT,
        "tried": OLD,
    }
    assert {rule.rule: rule.change for rule in found.rules} == {
        "large": "changed", "night": "added", "tried": "added", "small": "removed",
    }  # fmt: skip
    assert found.same_rules == 1
    for effect in found.rules:
        after = decisions(alone[effect.rule])
        assert effect.adds.rows == ((before == "approve") & (after != "approve")).sum()
        assert effect.removes.rows == ((before != "approve") & (after == "approve")).sum()
        assert effect.otherwise.rows == (before != after).sum()
    by_name = {effect.rule: effect for effect in found.rules}
    assert by_name["large"].fields == {"when": ("amount > 150", "amount > 120")}
    assert by_name["large"].adds.rows > 0
    assert by_name["small"].removes.rows > 0
    assert by_name["tried"].fired_new > by_name["tried"].otherwise.rows == 0


def test_the_sample_is_of_changed_rows_and_the_same_in_every_division() -> None:
    found, before, after = compared(OLD, NEW), decisions(OLD), decisions(NEW)
    assert 12 < len(found.sample) <= 36
    for row in found.sample:
        place = int(row.transaction_id[1:])
        assert (row.decision_old, row.decision_new) == (before[place], after[place])
        assert row.decision_old != row.decision_new
        assert "tried" not in row.rules_new
    assert compared(OLD, NEW, 333).sample == found.sample


def test_without_rules_on_one_side_every_rule_is_added_or_removed() -> None:
    assert {rule.change for rule in compared(None, NEW).rules} == {"added"}
    found = compared(OLD, None)
    assert {rule.change for rule in found.rules} == {"removed"}
    assert found.flagged_new == (decisions(None) != "approve").sum()
    assert compared(None, None).otherwise.rows == 0


def test_what_means_the_same_does_not_differ() -> None:
    text = "# changed\n" + TRUSTED + SMALL + LARGE.replace("amount > 150", "(amount  > 150)")
    difference = rules_difference(rules_of(OLD), rules_of(text))
    assert (difference.changes, difference.same) == ((), 3)
    for old, new, field in (
        ("rollout = 50", "rollout = 60", "rollout"),
        ("priority = 2", "priority = 3", "priority"),
        ('"approve"', '"review"', "decision"),
    ):
        (change,) = rules_difference(rules_of(OLD), rules_of(OLD.replace(old, new))).changes
        assert list(change.fields) == [field]
    other = OLD.replace("amount > 150", "(amount > 150)").replace("large", "large", 1)
    other = other.replace('decision = "review"', 'decision = "decline"', 1)
    (change,) = rules_difference(rules_of(OLD), rules_of(other)).changes
    assert list(change.fields) == ["decision"]


def test_other_values_of_a_list_are_a_change() -> None:
    text = "[[list]]\nname = 'l'\nvalues = ['a']\n" + rule("r", "merchant_id in l", "review")
    other = text.replace("['a']", "['a', 'b']")
    (change,) = rules_difference(rules_of(text), rules_of(other)).changes
    assert list(change.fields) == ["values"]


def test_the_report_names_both_and_escapes_ids() -> None:
    found = replace(compared(OLD, NEW), old="<b>old</b>")
    page = report_bytes(found, ".html").decode()
    assert "<b>old" not in page
    assert "Rules that differ" in page
    assert json.loads(report_bytes(found, ".json"))["only_new"]["rows"] == found.only_new.rows
    assert "| night |" in report_bytes(found, ".md").decode()
