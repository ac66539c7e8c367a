"""Terminals in reach equal those of a comparison of all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.simulate import purchases as module
from beam_fraud.simulate.purchases import draw_customers, draw_purchases, terminals_in_reach

place = st.tuples(st.floats(0, 100), st.floats(0, 100))


def by_hand(customers, terminals, radius):
    away = customers[:, None, :] - terminals[None, :, :]
    near = (away**2).sum(axis=2) <= radius**2
    return [set(np.flatnonzero(row)) for row in near]


def lists(reach):
    pieces = np.split(reach.terminals, reach.starts[1:-1])
    assert all(len(set(piece)) == len(piece) for piece in pieces)
    return [set(piece) for piece in pieces]


@settings(deadline=None)
@given(
    customers=st.lists(place, min_size=1, max_size=12).map(np.array),
    terminals=st.lists(place, min_size=1, max_size=12).map(np.array),
    radius=st.floats(0.5, 150),
)
def test_the_strips_find_what_all_pairs_find(customers, terminals, radius):
    result = lists(terminals_in_reach(customers, terminals, radius))
    assert result == by_hand(customers, terminals, radius)


@pytest.mark.parametrize("pairs", [1, 50, 10**6])
def test_the_size_of_a_block_changes_nothing(pairs, monkeypatch):
    monkeypatch.setattr(module, "_PAIRS_PER_BLOCK", pairs)
    rng = np.random.default_rng(0)
    customers, terminals = rng.uniform(0, 100, (60, 2)), rng.uniform(0, 100, (300, 2))
    result = lists(terminals_in_reach(customers, terminals, 7.0))
    assert result == by_hand(customers, terminals, 7.0)


def test_purchases_are_made_at_every_terminal_in_reach_and_at_no_other():
    rng = np.random.default_rng(1)
    homes, terminals = rng.uniform(0, 100, (200, 2)), rng.uniform(0, 100, (150, 2))
    reach = terminals_in_reach(homes, terminals, 8.0)
    assert (reach.sizes == 0).any()
    bought = draw_purchases(draw_customers(200, rng), reach, 400, rng)
    distance = np.linalg.norm(homes[bought.customer] - terminals[bought.terminal], axis=1)
    assert distance.max() <= 8.0
    used = len(np.unique(bought.customer * 150 + bought.terminal))
    assert used > 0.98 * len(reach.terminals)
    assert not np.isin(bought.customer, np.flatnonzero(reach.sizes == 0)).any()
