"""Only the bulk of the rows moves the clock by which a stream expires state."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.features.event_clock import NEVER, ClockState, EventClock

HOUR = 3_600_000_000


@settings(deadline=None)
@given(
    st.lists(st.integers(-100, 100), max_size=80),
    st.lists(st.integers(0, 80)),
    st.integers(1, 9),
    st.integers(1, 4),
)
def test_it_depends_on_the_rows_alone_and_resumes_from_its_state(
    times: list[int], cuts: list[int], block: int, blocks: int
) -> None:
    rows = np.array(times, dtype=np.int64)
    whole = EventClock(block, blocks)
    along = whole.along(rows)
    assert (np.diff(along) >= 0).all()
    clock, result = EventClock(block, blocks), [np.zeros(0, dtype=np.int64)]
    for start, stop in pairwise(sorted({0, len(rows), *(c for c in cuts if c < len(rows))})):
        piece = rows[start:stop]
        expected = clock.after(piece)
        result.append(clock.along(piece))
        assert clock.at == expected
        state = msgspec.msgpack.decode(msgspec.msgpack.encode(clock.state), type=ClockState)
        clock = EventClock(block, blocks)
        clock.resume(state)
    assert np.concatenate(result).tolist() == along.tolist()
    assert clock.state == whole.state


def test_of_one_row_it_stands_at_the_newest() -> None:
    assert EventClock(1, 1).along(np.array([3, 1, 4, 1, 5])).tolist() == [3, 3, 4, 4, 5]


@pytest.mark.parametrize("ahead", [1, HOUR, 200_000 * HOUR])
def test_one_source_in_ten_that_is_ahead_does_not_move_it(ahead: int) -> None:
    random = np.random.default_rng(0)
    times = np.arange(20_000, dtype=np.int64) * 1_000
    undisturbed, disturbed = EventClock(), EventClock()
    undisturbed.observe(times)
    wrong = random.random(len(times)) < 0.09
    disturbed.observe(np.where(wrong, times + ahead, times))
    assert disturbed.at <= int(times[-1])
    assert undisturbed.at - 200_000 < disturbed.at


def test_a_burst_of_a_hundred_rows_ahead_does_not_move_it() -> None:
    clock = EventClock()
    clock.observe(np.arange(2_000))
    before = clock.at
    clock.observe(np.full(100, 200_000 * HOUR))
    clock.observe(np.arange(2_000, 2_500))
    assert before < clock.at < 2_500


def test_few_first_rows_do_not_set_the_clock() -> None:
    clock = EventClock()
    clock.observe(np.array([200_000 * HOUR]))
    assert clock.at == NEVER
    clock.observe(np.arange(200))
    assert clock.at < 200


def test_it_follows_a_gap_and_is_few_hundred_rows_behind() -> None:
    clock = EventClock()
    clock.observe(np.arange(5_000))
    assert 5_000 - clock.at < 600
    clock.observe(np.arange(1_000_000, 1_001_000))
    assert clock.at >= 1_000_000
