"""Shares of fraud by score keep the number of frauds, rise, and survive a file."""

from __future__ import annotations

import numpy as np
import pytest

from beam_fraud.models.reliability import BINS, MIDDLES, Reliability, bins_of, frauds_together


def rows(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = (random.random(20_000) < 0.02).astype(np.int8)
    scores = np.where(labels == 1, random.beta(3, 2, 20_000), random.beta(1, 20, 20_000))
    return labels, scores


def test_shares_rise_and_keep_the_number_of_frauds() -> None:
    labels, scores = rows(1)
    known = Reliability.of(labels, scores, 1.0)
    assert (np.diff(known.shares) >= -1e-12).all()
    assert known.shares[bins_of(scores)].sum() == pytest.approx(labels.sum())


def test_more_rows_are_added() -> None:
    labels, scores = rows(2)
    whole = Reliability.of(labels, scores, 1.0)
    half = Reliability.of(labels[:9_000], scores[:9_000], 1.0)
    rest = Reliability.of(labels[9_000:], scores[9_000:], 1.0)
    both = half.with_rows(rest.rows, rest.frauds)
    assert np.array_equal(both.rows, whole.rows)
    assert np.array_equal(both.frauds, whole.frauds)


def test_a_file_keeps_the_counts() -> None:
    known = Reliability.of(*rows(3), 2.25)
    again = Reliability.from_parquet(known.to_parquet())
    assert np.array_equal(again.rows, known.rows)
    assert np.array_equal(again.frauds, known.frauds)
    assert again.together == known.together
    assert len(known.to_parquet()) < 10_000


def test_every_score_has_a_bin() -> None:
    assert bins_of(np.array([0.0, 1.0])).tolist() == [0, BINS - 1]
    assert bins_of(MIDDLES).tolist() == list(range(BINS))


def test_frauds_of_one_card_or_one_merchant_come_together() -> None:
    weeks = np.array([0, 0, 0, 0, 9])
    cards = np.array(["a", "a", "b", "c", "a"])
    merchants = np.array(["x", "y", "y", "y", "x"])
    # Sizes: 2, 3, 3, 3, 1.
    assert frauds_together(weeks, [cards, merchants]) == pytest.approx(12 / 5)
    assert frauds_together(weeks, []) == 1.0
