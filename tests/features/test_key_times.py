"""Positions of windows in a run are those of a search, also where it goes by cells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.features.velocity.state import key_times
from beam_fraud.features.velocity.state.key_times import Frame, KeyTimes


@pytest.mark.parametrize("fine", [0, 1 << 20])
@given(
    slots=st.lists(st.integers(0, 9), min_size=20, max_size=60),
    last=st.integers(0, 1 << 40),
    seed=st.integers(0, 1 << 32),
)
def test_cells_give_the_positions_of_a_search(
    slots: list[int], last: int, seed: int, fine: int
) -> None:
    random = np.random.default_rng(seed)
    frame = Frame.around(1_000, 1_000 + last)
    # Many equal times, and slots with many rows.
    times = 1_000 + random.choice(random.integers(0, last + 1, 9), len(slots))
    rows = KeyTimes(frame, np.sort(frame.numbers(np.array(slots), times)))
    # Unknown slots, later ones, and times outside.
    asked = random.integers(-1, 12, 8)
    moments = np.concatenate((times[:8], times[:8] + 1, random.integers(-last, 3 * last + 9, 8)))
    moments = moments.reshape(3, 8)
    searched = rows.positions(asked, moments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_times, "_MANY_NEEDLES", 0)
        patch.setattr(key_times, "_MANY_ROWS", 0)
        patch.setattr(key_times, "_FINE_ROWS", fine)
        before = rows.nbytes
        assert rows.positions(asked, moments).tolist() == searched.tolist()
        assert rows.nbytes > before
