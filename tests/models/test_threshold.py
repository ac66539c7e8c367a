from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.models.threshold import operating_points, parse_threshold
from tests.failing import fails

# Three frauds among eight rows, with a tie at 0.6.
LABELS = np.array([1, 0, 1, 0, 1, 0, 0, 0], dtype=np.int8)
SCORES = np.array([0.9, 0.8, 0.6, 0.6, 0.5, 0.2, 0.1, 0.0])


def choose(rule: str, days: float = 2.0) -> float:
    return parse_threshold(rule).choose(operating_points(LABELS, SCORES, days))


@pytest.mark.parametrize(
    ("rule", "threshold"),
    [
        ("f1", 0.5),
        ("precision=0.9", 0.9),
        ("precision=0.5", 0.5),
        ("precision=0.2", 0.5),
        ("recall=0.3", 0.9),
        ("recall=0.5", 0.6),
        ("recall=1", 0.5),
        ("budget=1", 0.8),
        ("budget=1.9", 0.8),
        ("budget=2", 0.6),
        ("budget=1000", 0.0),
        ("cost=1:100", 0.9),
        ("cost=100:1", 0.5),
        ("0.73", 0.73),
    ],
)
def test_a_rule_chooses_the_threshold_that_it_promises(rule: str, threshold: float) -> None:
    assert choose(rule) == threshold


@pytest.mark.parametrize(("alarm", "threshold"), [(1000, 0.9), (10, 0.9), (4, 0.5), (0.1, 0.5)])
def test_a_missed_fraud_may_cost_its_amount(alarm: float, threshold: float) -> None:
    # The frauds are of 50, 5 and 9; a refund that was missed costs nothing.
    amounts = np.array([50.0, 700.0, 5.0, 800.0, 9.0, -3.0, 1.0, 1.0])
    points = operating_points(LABELS, SCORES, 1.0, amounts)
    rule = parse_threshold(f"cost=amount:{alarm}")
    chosen = rule.choose(points)
    cost = {
        at: amounts[(LABELS == 1) & (at > SCORES)].sum()
        + alarm * ((LABELS == 0) & (at <= SCORES)).sum()
        for at in points.thresholds
    }
    assert cost[chosen] == min(cost.values())
    assert chosen == threshold
    refunds = operating_points(LABELS, SCORES, 1.0, -amounts).missed_amount
    assert refunds is not None
    assert (refunds >= 0).all()


def test_unknown_amounts_cost_nothing() -> None:
    with fails(Code.ROLE_MISSING, "cost=amount:2: "):
        choose("cost=amount:2")


def test_an_unreachable_precision_names_the_reachable_one() -> None:
    labels = np.array([0, 1, 0, 1], dtype=np.int8)
    points = operating_points(labels, np.array([0.9, 0.8, 0.7, 0.6]), 1.0)
    with fails(Code.THRESHOLD_UNREACHABLE, r"at most 0\.5 \(with a recall of 0\.5\)"):
        parse_threshold("precision=0.8").choose(points)


def test_an_unreachable_budget_names_the_reachable_one() -> None:
    points = operating_points(LABELS, np.full(8, 0.5), 2.0)
    with fails(Code.THRESHOLD_UNREACHABLE, "4 alerts a day"):
        parse_threshold("budget=3").choose(points)


def test_a_budget_needs_a_span_of_time() -> None:
    with fails(Code.THRESHOLD_UNREACHABLE, "one moment"):
        choose("budget=3", days=0.0)


@pytest.mark.parametrize(
    "rule",
    [
        "",
        "f2",
        "f1=3",
        "precision",
        "precision=",
        "precision=1.2",
        "recall=0",
        "recall=nan",
        "budget=-1",
        "budget=inf",
        "cost=5",
        "cost=1:2:3",
        "cost=0:1",
        "cost=amount",
        "cost=amount:0",
        "cost=1:amount",
        "1.5",
        "nan",
    ],
)
def test_an_invalid_rule_is_a_usage_error(rule: str) -> None:
    with fails(Code.OPTION_VALUE, "f1, precision=X", kind=UsageError):
        parse_threshold(rule)


labelled_scores = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 8).map(lambda n: n / 8)), min_size=2, max_size=60
).filter(lambda rows: 0 < sum(label for label, _ in rows) < len(rows))


def precision_recall_f1(
    labels: np.ndarray, scores: np.ndarray, threshold: float
) -> tuple[float, float, float]:
    flagged = scores >= threshold
    caught = labels[flagged].sum()
    return (
        caught / flagged.sum(),
        caught / labels.sum(),
        2 * caught / (flagged.sum() + labels.sum()),
    )


@given(labelled_scores)
def test_no_threshold_has_a_higher_f1(rows: list[tuple[int, float]]) -> None:
    labels = np.array([label for label, _ in rows], dtype=np.int8)
    scores = np.array([score for _, score in rows])
    chosen = parse_threshold("f1").choose(operating_points(labels, scores, 1.0))
    best = max(precision_recall_f1(labels, scores, t)[2] for t in np.unique(scores))
    assert precision_recall_f1(labels, scores, chosen)[2] == best


@given(labelled_scores, st.floats(0.01, 1.0))
def test_a_target_that_is_reachable_is_met(rows: list[tuple[int, float]], target: float) -> None:
    labels = np.array([label for label, _ in rows], dtype=np.int8)
    scores = np.array([score for _, score in rows])
    points = operating_points(labels, scores, 1.0)
    chosen = parse_threshold(f"recall={target}").choose(points)
    assert precision_recall_f1(labels, scores, chosen)[1] >= target
    reachable = max(precision_recall_f1(labels, scores, t)[0] for t in np.unique(scores))
    if reachable >= target:
        chosen = parse_threshold(f"precision={target}").choose(points)
        assert precision_recall_f1(labels, scores, chosen)[0] >= target
    else:
        with fails(Code.THRESHOLD_UNREACHABLE):
            parse_threshold(f"precision={target}").choose(points)


@given(labelled_scores, st.integers(1, 60))
def test_a_budget_is_kept_and_used_up(rows: list[tuple[int, float]], budget: int) -> None:
    labels = np.array([label for label, _ in rows], dtype=np.int8)
    scores = np.array([score for _, score in rows])
    flagged = [int((scores >= t).sum()) for t in np.unique(scores)]
    points = operating_points(labels, scores, 1.0)
    if min(flagged) > budget:
        with pytest.raises(FraudError):
            parse_threshold(f"budget={budget}").choose(points)
    else:
        chosen = parse_threshold(f"budget={budget}").choose(points)
        assert (scores >= chosen).sum() == max(n for n in flagged if n <= budget)
