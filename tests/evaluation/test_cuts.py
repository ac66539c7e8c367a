"""Figures from counts of cells equal those from rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from beam_fraud.evaluation.bootstrap import FIGURES, Cuts, cuts_of
from beam_fraud.evaluation.curves import curves_of
from beam_fraud.evaluation.rows import Floats, Labels

ROW = st.tuples(st.booleans(), st.integers(0, 8))


def arrays(rows: list[tuple[bool, int]]) -> tuple[Labels, Floats]:
    labels = np.array([fraud for fraud, _ in rows], dtype=np.int8)
    return labels, np.array([eighths / 8 for _, eighths in rows])


def figures(cuts: Cuts, labels: Labels, weights: Floats) -> dict[str, float]:
    counted = (
        np.bincount(cuts.cells, weights * (labels == label), cuts.count)[None, :]
        for label in (1, 0)
    )
    return {name: float(values[0]) for name, values in cuts.figures(*counted).items()}


@given(st.lists(st.tuples(ROW, st.integers(0, 3)), min_size=2, max_size=60), st.integers(0, 8))
def test_figures_equal_scikit_learns_with_ties_and_weights(
    drawn: list[tuple[tuple[bool, int], int]], eighths: int
) -> None:
    labels, scores = arrays([row for row, _ in drawn])
    weights = np.array([weight for _, weight in drawn], dtype=float)
    threshold = eighths / 8
    got = figures(cuts_of(labels, scores, threshold), labels, weights)
    flagged = scores >= threshold
    frauds, genuine = weights @ labels, weights @ (1 - labels)
    if not frauds or not genuine:
        assert np.isnan(got["average_precision"])
        assert np.isnan(got["roc_auc"])
        return
    expected = {
        "average_precision": average_precision_score(labels, scores, sample_weight=weights),
        "roc_auc": roc_auc_score(labels, scores, sample_weight=weights),
        "recall": recall_score(labels, flagged, sample_weight=weights),
        "f1": f1_score(labels, flagged, sample_weight=weights),
    }
    if weights @ flagged:
        expected["precision"] = precision_score(labels, flagged, sample_weight=weights)
    else:
        assert np.isnan(got.pop("precision"))
    assert got == pytest.approx(expected, abs=1e-12)


def test_every_figure_has_a_name() -> None:
    labels, scores = np.array([0, 1], dtype=np.int8), np.array([0.1, 0.2])
    assert tuple(figures(cuts_of(labels, scores, 0.5), labels, np.ones(2))) == FIGURES


@given(st.lists(ROW, min_size=1, max_size=60))
def test_curves_end_with_every_row_flagged(rows: list[tuple[bool, int]]) -> None:
    labels, scores = arrays(rows)
    curves = curves_of(labels, scores)
    assert (curves.flagged[-1], curves.caught[-1]) == (len(labels), labels.sum())
    for threshold, flagged, caught in zip(
        curves.thresholds, curves.flagged, curves.caught, strict=True
    ):
        at_least = scores >= threshold
        assert (flagged, caught) == (at_least.sum(), labels[at_least].sum())


def test_long_curves_are_thinned_and_keep_both_ends() -> None:
    random = np.random.default_rng(0)
    labels = (random.random(50_000) < 0.05).astype(np.int8)
    scores = random.random(50_000)
    curves = curves_of(labels, scores)
    assert len(curves.thresholds) < 700
    assert curves.thresholds[0] == scores.max()
    assert curves.thresholds[-1] == scores.min()
    assert np.all(np.diff(curves.recall) >= 0)
