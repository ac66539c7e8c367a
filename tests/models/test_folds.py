from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.errors import Code, FraudError
from beam_fraud.models.folds import (
    block_begins,
    chained_folds,
    stratified_folds,
    without_known_cards,
)
from beam_fraud.schema.duration import DAY, HOUR
from tests.failing import fails

SECONDS = st.lists(st.integers(0, 500), min_size=1, max_size=80).map(sorted)


@given(SECONDS, st.integers(2, 6), st.integers(0, 60))
def test_folds_go_forward_and_leave_the_delay_between(
    seconds: list[int], folds: int, delay: int
) -> None:
    times = np.array(seconds)
    try:
        begins = block_begins(times, folds, None, delay)
        division = chained_folds(times, begins, delay)
    except FraudError:
        # Where there are too few moments: never for these.
        assert len(set(seconds)) < 80
        return
    assert len(division.folds) == folds
    for fold, begin in zip(division.folds, begins, strict=True):
        assert times[fold.train].max() + delay < times[fold.valid].min()
        assert (times[fold.valid] >= begin).all()
        between = (times + delay >= begin) & (times < begin)
        assert fold.unlabelled == between.sum()
    judging = division.valid
    # Every row from the first block on judges once, rows of one moment together.
    assert np.array_equal(judging, np.arange(judging[0], len(times)))
    assert judging[0] == 0 or times[judging[0] - 1] < times[judging[0]]
    for fold, following in zip(division.folds, division.folds[1:], strict=False):
        assert times[fold.valid[-1]] < times[following.valid[0]]
    assert np.array_equal(division.refit, np.arange(len(times)))


def test_blocks_have_about_as_many_rows_each() -> None:
    times = np.arange(1000) * HOUR // 1000
    begins = block_begins(times, 4, None, 0)
    edges = np.searchsorted(times, begins)
    assert np.diff([*edges, 1000]).tolist() == [200] * 4


def test_blocks_of_days_begin_at_midnight() -> None:
    times = np.arange(0, 30 * DAY, HOUR) + 5 * HOUR
    begins = block_begins(times, 4, None, 7 * DAY)
    assert (begins % DAY == 0).all()
    assert begins[0] >= 7 * DAY
    assert (np.diff(begins) >= 4 * DAY).all()


def test_the_first_block_begins_at_the_time_of_the_option() -> None:
    times = np.arange(0, 30 * DAY, HOUR)
    moment = 10 * DAY + 7 * HOUR + 1
    begins = block_begins(times, 3, datetime.fromtimestamp(moment / 1e6, UTC), 0)
    assert begins[0] == moment
    assert (begins[1:] % DAY == 0).all()
    # The handbook's week: labels of what is seven days older than that moment are known.
    (fold,) = chained_folds(times, begins[:1], 7 * DAY).folds
    assert times[fold.train[-1]] < moment - 7 * DAY <= times[fold.train[-1] + 1]


@pytest.mark.parametrize(
    ("hours", "folds", "delay", "message"),
    [
        (5, 9, 0, "--folds 9: the rows .from 1970-01-01T00:00:00.00:00 to 1970-01-01T04:00:00"),
        (1, 2, 0, "--folds 2"),
        (40, 2, 39 * HOUR, "--folds 2"),
    ],
)
def test_rows_that_cannot_be_cut_so_often_are_an_error(
    hours: int, folds: int, delay: int, message: str
) -> None:
    with pytest.raises(FraudError, match=message):
        block_begins(np.arange(hours) * HOUR, folds, None, delay)


def test_a_delay_that_leaves_no_row_to_fit_on_is_an_error() -> None:
    times = np.arange(40) * HOUR
    with fails(Code.DIVISION_IMPOSSIBLE, "--label-delay: on 1970-01-02T06:00:00"):
        chained_folds(times, np.array([30 * HOUR]), 30 * HOUR)
    (fold,) = chained_folds(times, np.array([30 * HOUR]), 29 * HOUR).folds
    assert fold.train.tolist() == [0]


def test_random_folds_have_equal_shares_of_fraud_and_validate_each_row_once() -> None:
    labels = np.zeros(1000, dtype=np.int8)
    labels[::20] = 1
    division = stratified_folds(labels, 5, seed=1)
    assert np.array_equal(
        np.sort(np.concatenate([division.valid, division.held_out])), np.arange(1000)
    )
    assert len(division.held_out) == 300
    for fold in division.folds:
        assert labels[fold.valid].sum() == 7
        assert np.array_equal(np.sort(np.r_[fold.train, fold.valid]), division.refit)
    same = stratified_folds(labels, 5, seed=1)
    assert np.array_equal(division.valid, same.valid)


@pytest.mark.parametrize("frauds", [0, 1, 5])
def test_too_few_frauds_for_random_folds_are_an_error(frauds: int) -> None:
    labels = np.zeros(100, dtype=np.int8)
    labels[:frauds] = 1
    with fails(Code.CLASSES_MISSING, "--split stratified --folds 5: 100 rows"):
        stratified_folds(labels, 5, seed=0)


def test_a_card_validates_until_its_fraud_is_known() -> None:
    times = np.arange(0, 20 * DAY, 6 * HOUR)
    cards = np.arange(len(times)) % 2
    labels = np.zeros(len(times), dtype=np.int8)
    labels[times == 8 * DAY] = 1  # of card 0; known from day 9 + 3 on
    division = chained_folds(times, np.array([5 * DAY, 15 * DAY]), 3 * DAY)
    first, second = without_known_cards(division, times, cards, labels, 3 * DAY).folds
    assert times[first.valid[cards[first.valid] == 0]].max() == 12 * DAY - 12 * HOUR
    assert (cards[second.valid] == 1).all()
    assert first.known + len(first.valid) == len(division.folds[0].valid)
    assert second.known == len(second.valid)
    assert np.array_equal(first.train, division.folds[0].train)
