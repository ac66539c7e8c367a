"""Rows dated ahead get correct features, and neither expire other rows nor fill the memory."""

from __future__ import annotations

import numpy as np
import pytest

from beam_fraud.features.velocity.batch.batch_features import batch_features
from beam_fraud.features.velocity.key_rows import KeyRows
from beam_fraud.features.velocity.state.velocity_state import VelocityState
from beam_fraud.schema.velocity import Velocity
from tests.features.test_velocity_state import assert_same, every, joined, row_of
from tests.velocity_reference import DAY, HOUR


def rows_some_ahead(seed: int, ahead: int, share: float) -> KeyRows:
    """Ten days of rows up to an hour late, a share of them dated ahead."""
    rng = np.random.default_rng(seed)
    n = 6_000
    time = np.sort(rng.integers(0, 10 * DAY, n)) - rng.integers(0, HOUR, n)
    wrong = rng.random(n) < share
    # The very first and the last count most.
    wrong[[0, 1, n - 1]] = True
    key = rng.integers(0, 40, n).astype(np.uint64)
    amount, merchant = rng.integers(0, 10**7, n), rng.integers(1, 20, n).astype(np.uint64)
    return KeyRows(key, np.where(wrong, time + ahead, time), amount, merchant)


@pytest.mark.parametrize("ahead", [9 * HOUR, 40 * DAY, 20 * 365 * DAY])
@pytest.mark.parametrize("size", [1, 97, 1_500])
def test_rows_ahead_are_correct_and_change_no_other_row(ahead: int, size: int) -> None:
    rows = rows_some_ahead(11, ahead, 0.05)
    if size == 1:
        rows = rows.take(slice(0, 1_500))
    specs = [every("0d"), Velocity(("account_id",), ("1d",), ("count", "sum"))][
        1 if size == 1 else 0 :
    ]
    state, parts = VelocityState(specs, lateness=2 * HOUR), []
    for start in range(0, len(rows), size):
        parts.append(state.update(rows.take(slice(start, start + size))))
    expected = batch_features(rows, None, specs, np.arange(len(rows)))
    assert_same(joined(parts), {name: list(feature) for name, feature in expected.items()})


def test_a_window_is_whole_when_time_has_caught_up_with_a_row_ahead() -> None:
    spec = Velocity(("account_id",), ("1d",), ("count",))
    state = VelocityState([spec], lateness=HOUR)
    times = np.arange(4 * 24 * 60) * (DAY // 1_440)
    far = 2 * DAY
    for start in range(0, len(times), 60):
        if start == 120:
            state.update(row_of(7, far))
        hour = times[start : start + 60]
        state.update(KeyRows(np.full(60, 1, dtype=np.uint64), hour, np.zeros(60, dtype=np.int64)))
        now = int(hour[-1])
        counted = state.update(row_of(7, now))["account_count_1d"][0] if start % 600 == 0 else None
        if counted is not None and far <= now < far + DAY:
            assert counted >= 2
    assert state.rows < 2.5 * 24 * 60


@pytest.mark.parametrize("ahead", [9 * HOUR, 20 * 365 * DAY])
def test_memory_is_bounded_for_any_dates_of_some_rows(ahead: int) -> None:
    spec = Velocity(("account_id",), ("1d",), ("count", "mean"))
    rng = np.random.default_rng(0)
    state, most = VelocityState([spec], lateness=HOUR), 0
    for hour in range(24 * 8):
        time = np.sort(rng.integers(hour * HOUR, (hour + 1) * HOUR, 200))
        # One terminal in fifty.
        time[::50] += ahead
        key = rng.integers(0, 100, 200).astype(np.uint64)
        state.update(KeyRows(key, time, rng.integers(0, 10**6, 200)))
        most = max(most, state.rows - 4 * hour)
    assert most < 1.5 * 24 * 200 + 600
