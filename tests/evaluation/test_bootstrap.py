"""Intervals of figures; models are compared on the same resamples."""

from __future__ import annotations

import numpy as np
import pytest

from beam_fraud.evaluation.bootstrap import (
    FIGURES,
    Bootstrap,
    Interval,
    affordable_resamples,
    bootstrap,
)
from beam_fraud.evaluation.rows import Floats, Ints, Labels


def population(size: int, seed: int, shift: float = 1.5) -> tuple[Labels, Floats]:
    """Frauds whose scores are higher by `shift` standard deviations."""
    random = np.random.default_rng(seed)
    labels = (np.arange(size) < size // 10).astype(np.int8)
    return labels, 1 / (1 + np.exp(-random.normal(size=size) - shift * labels))


def run(labels: Labels, *scores: Floats, accounts: Ints | None = None, count: int = 200, seed=0):
    return bootstrap(labels, scores, [0.8] * len(scores), accounts=accounts, count=count, seed=seed)


def test_intervals_cover_the_figures_of_the_population() -> None:
    labels, scores = population(200_000, 0)
    true = {name: values[0] for name, values in run(labels, scores, count=1).observed.items()}
    result: list[Bootstrap] = [run(*population(600, seed)) for seed in range(1, 151)]
    for figure in FIGURES:
        intervals = [bootstrapped.interval(figure, 0) for bootstrapped in result]
        covered = np.mean([i.low <= true[figure] <= i.high for i in intervals if i])
        # 95 are aimed at; of 150, five standard deviations are less than nine.
        assert 0.86 <= covered <= 1, figure


def test_a_seed_gives_the_same_resamples_and_another_gives_others() -> None:
    labels, scores = population(500, 0)
    first, again, other = (run(labels, scores, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.figures["roc_auc"], again.figures["roc_auc"])
    assert np.any(first.figures["roc_auc"] != other.figures["roc_auc"])


def test_rows_in_another_order_give_the_same_intervals() -> None:
    labels, scores = population(500, 0)
    order = np.random.default_rng(1).permutation(500)
    one, other = run(labels, scores), run(labels[order], scores[order])
    assert one.intervals(0) == other.intervals(0)


def test_resamples_are_those_of_rows_drawn_one_by_one() -> None:
    # The slow way: rows drawn by their places, frauds apart, and measured each time.
    labels, scores = population(300, 5)
    random = np.random.default_rng(0)
    frauds, genuine = np.flatnonzero(labels), np.flatnonzero(labels == 0)
    slow = []
    for _ in range(400):
        rows = np.concatenate([random.choice(part, len(part)) for part in (frauds, genuine)])
        slow.append(run(labels[rows], scores[rows], count=1).observed["average_precision"][0])
    fast = run(labels, scores, count=2000).figures["average_precision"][0]
    assert np.mean(fast) == pytest.approx(np.mean(slow), abs=4 * np.std(slow) / 20)
    assert np.std(fast) == pytest.approx(np.std(slow), rel=0.2)


def test_a_model_does_not_differ_from_itself_and_a_better_one_does() -> None:
    labels, scores = population(2000, 0)
    _, better = population(2000, 0, shift=3)
    result = run(labels, scores, scores.copy(), better)
    for same in result.differences(1):
        assert (same.value, same.interval, same.better) == (0, Interval(0, 0), 0.5)
    by_name = {difference.figure: difference for difference in result.differences(2)}
    assert by_name["average_precision"].interval.low > 0
    assert by_name["average_precision"].better == 1


def test_pairs_are_compared_more_closely_than_their_intervals_say() -> None:
    labels, scores = population(2000, 0)
    noise = np.random.default_rng(1).normal(scale=0.002, size=2000)
    result = run(labels, scores, np.clip(scores + noise, 0, 1))
    [difference] = [d for d in result.differences(1) if d.figure == "average_precision"]
    alone = result.interval("average_precision", 0)
    assert alone is not None
    width = difference.interval.high - difference.interval.low
    assert width < (alone.high - alone.low) / 5


def test_accounts_whose_rows_are_alike_make_wider_intervals() -> None:
    labels, scores = population(300, 0)
    # Each row ten times, as ten transactions of one account.
    labels, scores = np.repeat(labels, 10), np.repeat(scores, 10)
    accounts = np.repeat(np.arange(300), 10)
    by_rows, by_accounts = run(labels, scores), run(labels, scores, accounts=accounts)
    assert (by_rows.unit, by_accounts.unit) == ("rows", "accounts")
    widths = [np.std(result.figures["average_precision"][0]) for result in (by_rows, by_accounts)]
    assert widths[1] / widths[0] == pytest.approx(np.sqrt(10), rel=0.25)


def test_accounts_of_a_row_each_are_rows() -> None:
    labels, scores = population(400, 0)
    by_rows, by_accounts = (
        run(labels, scores, accounts=accounts, count=2000) for accounts in (None, np.arange(400))
    )
    for figure in FIGURES:
        assert np.std(by_accounts.figures[figure]) == pytest.approx(
            np.std(by_rows.figures[figure]), rel=0.15
        )


@pytest.mark.parametrize("label", [0, 1])
def test_rows_of_one_class_have_no_intervals_of_undefined_figures(label: int) -> None:
    labels = np.full(10, label, dtype=np.int8)
    result = run(labels, np.linspace(0, 1, 10), np.linspace(0, 1, 10), accounts=np.arange(10) // 2)
    assert result.interval("average_precision", 0) is None
    assert result.interval("roc_auc", 0) is None
    assert "average_precision" not in {d.figure for d in result.differences(1)}


def test_constant_scores_have_no_spread() -> None:
    labels, _ = population(100, 0)
    result = run(labels, np.full(100, 0.5))
    assert result.interval("roc_auc", 0) == Interval(0.5, 0.5)
    assert result.interval("precision", 0) is None
    assert result.interval("recall", 0) == Interval(0, 0)


def test_many_units_have_fewer_resamples() -> None:
    assert affordable_resamples(1000, 57_000) < 1000
    assert affordable_resamples(50, 10**9) == 50
