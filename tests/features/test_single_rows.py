"""One row at a time, or a few together, give the features of the general way, in every bit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.features.event_clock import EventClock
from beam_fraud.features.velocity.key_rows import Frauds, KeyRows
from beam_fraud.features.velocity.state.velocity_state import KeyWindows
from beam_fraud.schema.velocity import Velocity

SPECS = (
    Velocity(("account_id",), ("1m", "10m", "1h"), ("count", "sum", "mean", "ratio")),
    Velocity(("account_id",), ("5m",), ("count", "seconds_since_last")),
    Velocity(("account_id",), ("10m",), ("count", "risk"), delay="1m"),
)
MINUTE = 60_000_000
LATENESS = 30 * MINUTE


@dataclass(frozen=True)
class Step:
    """Rows that arrive together, or something else that happens."""

    what: str
    rows: int
    seed: int


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from(["update"] * 6 + ["peek", "add", "label", "expire", "settle"]),
        st.sampled_from([1, 1, 1, 1, 2, 7, 40, 128]),
        st.integers(0, 2**32 - 1),
    ),
    min_size=30,
    max_size=120,
)


def rows_of(random: np.random.Generator, rows: int, now: int, late: int, keys: int = 4) -> KeyRows:
    times = now + np.sort(random.integers(-late, MINUTE, rows))
    amounts = random.choice([0, 1, 12_345, 10**9, -5_000, 99_999_999_999_999], rows)
    return KeyRows(random.integers(0, keys, rows).astype(np.uint64), times, amounts)


@settings(max_examples=25)
@given(steps, st.integers(0, 2**32 - 1), st.sampled_from([0, 20 * MINUTE, 90 * MINUTE]))
def test_features_are_those_of_the_general_way(steps: list[Step], seed: int, late: int) -> None:
    single, general = (KeyWindows(SPECS, LATENESS, EventClock()) for _ in range(2))
    general._alone = False
    now = 10**15
    # Enough rows that the clock has started.
    first = rows_of(np.random.default_rng(seed), 200, now, 0)
    for windows in (single, general):
        windows.update(first)
    for step in steps:
        random = np.random.default_rng(step.seed)
        now += int(random.integers(0, 3 * MINUTE))
        # Also of keys without rows.
        rows = rows_of(random, step.rows, now, late, 7)
        if step.what == "update":
            mine, theirs = single.update(rows), general.update(rows)
        elif step.what == "peek":
            alone = rows.take(slice(0, 1))
            mine, theirs = (w.update(alone, keep=False) for w in (single, general))
        elif step.what == "settle":
            mine = theirs = {}
            single.settle()
        else:
            mine = theirs = {}
            for windows in (single, general):
                if step.what == "add":
                    windows.add(rows)
                elif step.what == "expire":
                    windows.expire()
                else:
                    ids = np.arange(step.rows).astype(np.uint64)
                    windows.label(Frauds(rows.key, rows.time - MINUTE, rows.time, None, ids))
        assert list(mine) == list(theirs)
        for name, feature in mine.items():
            assert feature.dtype == np.float64
            assert feature.tobytes() == theirs[name].tobytes(), name
    # Expired rows leave with the runs that they are in.
    for windows in (single, general):
        windows.expire()
    assert single.rows == general.rows


def test_single_rows_have_their_way() -> None:
    """Else the comparison above compares nothing."""
    windows = KeyWindows(SPECS, LATENESS, EventClock())
    windows.update(rows_of(np.random.default_rng(1), 200, 10**15, 0))
    for number in range(5):
        windows.update(rows_of(np.random.default_rng(number), 1, 10**15 + number, 0))
    assert len(windows._single) == 5
    windows.update(rows_of(np.random.default_rng(1), 128, 10**15, 0))
    assert len(windows._single) == 5 + 128
    windows.update(rows_of(np.random.default_rng(1), 128, 10**15, 0))
    assert not len(windows._single)
    windows.update(rows_of(np.random.default_rng(1), 129, 10**15, 0))
    assert not len(windows._single)


def test_single_rows_have_their_way_always_if_they_are_settled_between() -> None:
    """Also those that move the clock, by less than a step of the frame."""
    windows, general = (KeyWindows(SPECS, LATENESS, EventClock()) for _ in range(2))
    general._alone = False
    for one in (windows, general):
        one.update(rows_of(np.random.default_rng(1), 200, 10**15, 0))
    before = windows._runs.clock.at
    for number in range(500):
        rows = rows_of(np.random.default_rng(number), 1, 10**15 + number * 1_000, 0)
        expected, waited = general.update(rows), len(windows._single)
        for name, feature in windows.update(rows).items():
            assert feature.tobytes() == expected[name].tobytes(), name
        assert len(windows._single) == waited + 1
        windows.settle()
    assert windows._runs.clock.at == general._runs.clock.at > before


@pytest.mark.parametrize("aggregate", ["std", "min", "max", "distinct_merchant"])
def test_other_aggregates_take_the_general_way(aggregate: str) -> None:
    spec = Velocity(("account_id",), ("1h",), ("count", aggregate))
    windows = KeyWindows((spec,), 0, EventClock())
    rows = rows_of(np.random.default_rng(1), 200, 10**15, 0)
    merchants = np.ones(200, dtype=np.uint64)
    windows.update(KeyRows(rows.key, rows.time, rows.amount, merchants))
    alone = KeyRows(rows.key[:1], rows.time[-1:], rows.amount[:1], merchants[:1])
    assert set(windows.update(alone)) == set(spec.names)
    assert not len(windows._single)
