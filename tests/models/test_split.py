from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.errors import Code
from beam_fraud.models.folds import split_by_time, split_stratified
from beam_fraud.schema.schema import EVENT_TIME
from tests.failing import fails

START = datetime(2024, 1, 1, tzinfo=UTC)


def event_time(seconds: list[int]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array([START + timedelta(seconds=s) for s in seconds], EVENT_TIME)])


def test_the_last_fifth_chooses() -> None:
    split = split_by_time(event_time(list(range(10))), None)
    assert split.train.tolist() == list(range(8))
    assert split.valid.tolist() == [8, 9]
    assert split.held_out.size == 0
    assert split.refit.tolist() == list(range(10))


def test_validation_starts_at_the_time_of_the_option() -> None:
    split = split_by_time(event_time([0, 5, 5, 9]), START + timedelta(seconds=5))
    assert split.valid.tolist() == [1, 2, 3]


@given(st.lists(st.integers(0, 12), min_size=1, max_size=40).map(sorted))
def test_rows_of_one_moment_stay_together(seconds: list[int]) -> None:
    times = event_time(seconds)
    if len(set(seconds)) == 1:
        with fails(Code.DIVISION_IMPOSSIBLE, "--valid-from"):
            split_by_time(times, None)
        return
    split = split_by_time(times, None)
    assert seconds[split.train[-1]] < seconds[split.valid[0]]
    assert sorted([*split.train, *split.valid]) == list(range(len(seconds)))


@pytest.mark.parametrize("seconds", [-1, 0, 10])
def test_a_time_with_all_rows_on_one_side_is_refused(seconds: int) -> None:
    with fails(Code.DIVISION_IMPOSSIBLE, "from 2024-01-01T00:00:00"):
        split_by_time(event_time(list(range(10))), START + timedelta(seconds=seconds))


def test_stratified_parts_are_disjoint_and_have_equal_shares_of_fraud() -> None:
    labels = np.zeros(10_000, dtype=np.int8)
    labels[::50] = 1
    split = split_stratified(labels, seed=1)
    parts = [split.train, split.valid, split.held_out]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(10_000))
    assert [len(part) for part in parts] == [5600, 1400, 3000]
    assert [int(labels[part].sum()) for part in parts] == [112, 28, 60]


def test_a_seed_gives_one_stratified_split() -> None:
    labels = np.tile(np.array([0, 0, 0, 1], dtype=np.int8), 50)
    one, same, other = (split_stratified(labels, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.held_out, same.held_out)
    assert not np.array_equal(one.held_out, other.held_out)


def test_too_few_frauds_to_stratify_are_an_error_of_one_line() -> None:
    with fails(Code.CLASSES_MISSING, "1 frauds"):
        split_stratified(np.array([0, 0, 0, 1], dtype=np.int8), seed=0)
