"""The simulated transactions have the documented properties."""

from __future__ import annotations

import time
from datetime import date, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.errors import UsageError
from beam_fraud.simulate.simulation import MAX_SEED, SIDE, TRANSACTIONS, Simulation, simulate

SPEC = Simulation(days=60, accounts=800, merchants=1000, seed=3)
#: The lowest id of its seed.
LOWEST = 3 * 10**9


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return simulate(SPEC)


def column(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy()


def day_of(table: pa.Table) -> np.ndarray:
    midnight = np.datetime64(SPEC.start)
    return (column(table, "TX_DATETIME") - midnight) // np.timedelta64(1, "D")


def test_one_seed_gives_one_table_and_another_seed_another(table):
    assert simulate(SPEC).equals(table)
    other = simulate(Simulation(days=60, accounts=800, merchants=1000, seed=4))
    assert not other.slice(0, 100).equals(table.slice(0, 100))


def test_two_seeds_share_no_id(table):
    other = simulate(Simulation(days=60, accounts=800, merchants=1000, seed=4))
    for name in ("TRANSACTION_ID", "CUSTOMER_ID", "TERMINAL_ID"):
        assert set(table[name].to_pylist()).isdisjoint(other[name].to_pylist())
        assert column(table, name).min() >= LOWEST
    assert len(set(table["TRANSACTION_ID"].to_pylist())) == table.num_rows


def test_columns_are_the_handbooks(table):
    assert table.schema.equals(TRANSACTIONS)
    assert all(table[name].null_count == 0 for name in table.column_names)
    assert set(np.unique(column(table, "TX_FRAUD_SCENARIO"))) == {0, 1, 2, 3}
    fraud, scenario = column(table, "TX_FRAUD"), column(table, "TX_FRAUD_SCENARIO")
    assert np.array_equal(fraud == 1, scenario > 0)


def test_rows_are_numbered_in_the_order_of_time(table):
    when = column(table, "TX_DATETIME")
    assert np.array_equal(column(table, "TRANSACTION_ID"), LOWEST + np.arange(len(when)))
    assert (np.diff(when) >= np.timedelta64(0)).all()
    assert np.array_equal(when, when.astype("datetime64[s]"))
    first, last = when[[0, -1]].astype("datetime64[D]")
    assert (first, last) == (np.datetime64("2024-01-01"), np.datetime64("2024-02-29"))


def test_the_first_day_is_that_of_the_option():
    table = simulate(Simulation(days=2, accounts=500, start=date(2019, 12, 31)))
    days = column(table, "TX_DATETIME").astype("datetime64[D]")
    assert set(days.astype(str)) == {"2019-12-31", "2020-01-01"}


def test_amounts_are_positive_and_have_two_decimals(table):
    amounts = column(table, "TX_AMOUNT")
    assert amounts.min() > 0
    assert all(amount == float(f"{amount:.2f}") for amount in amounts[:5000])


def test_times_of_day_lie_around_noon(table):
    seconds = column(table, "TX_DATETIME").astype("datetime64[s]").astype(np.int64) % 86_400
    assert abs(seconds.mean() - 43_200) < 300
    # A normal of 20,000 s cut at 2.16 deviations has a deviation of 0.91 times that.
    assert abs(seconds.std() - 0.91 * 20_000) < 200


def test_customers_have_their_own_amounts_and_frequency(table):
    customers, amounts = column(table, "CUSTOMER_ID") - LOWEST, column(table, "TX_AMOUNT")
    genuine = column(table, "TX_FRAUD") == 0
    counts = np.bincount(customers[genuine], minlength=SPEC.accounts)
    busy = counts > 60
    sums = np.bincount(customers[genuine], amounts[genuine], minlength=SPEC.accounts)
    squares = np.bincount(customers[genuine], amounts[genuine] ** 2, minlength=SPEC.accounts)
    means = sums[busy] / counts[busy]
    spreads = np.sqrt(squares[busy] / counts[busy] - means**2)
    assert means.min() < 15
    assert means.max() > 85
    assert np.median(spreads / means) == pytest.approx(0.5, abs=0.05)
    assert counts.max() == pytest.approx(4 * SPEC.days, rel=0.25)
    assert counts.mean() == pytest.approx(2 * SPEC.days, rel=0.1)


def test_amounts_too_high_are_exactly_those_over_a_threshold(table):
    amounts, scenario = column(table, "TX_AMOUNT"), column(table, "TX_FRAUD_SCENARIO")
    assert amounts[scenario == 0].max() < amounts[scenario == 1].min()
    assert amounts[scenario == 1].min() == pytest.approx(220, rel=0.1)


def test_compromised_terminals_have_nothing_but_fraud_for_four_weeks(table):
    terminals, days = column(table, "TERMINAL_ID") - LOWEST, day_of(table)
    scenario = column(table, "TX_FRAUD_SCENARIO")
    hit = np.unique(terminals[scenario == 2])
    assert 0 < len(hit) < SPEC.merchants / 20
    for terminal in hit:
        rows = terminals == terminal
        first, last = days[rows & (scenario == 2)][[0, -1]]
        assert last - first < 28
        during = scenario[rows & (days >= first) & (days <= last)]
        assert set(during) <= {2, 3}


def test_compromised_customers_lose_a_third_to_fivefold_amounts_for_two_weeks(table):
    customers, days, amounts = (
        column(table, "CUSTOMER_ID") - LOWEST,
        day_of(table),
        table["TX_AMOUNT"],
    )
    amounts = amounts.to_numpy()
    scenario = column(table, "TX_FRAUD_SCENARIO")
    stolen = scenario == 3
    hit = np.unique(customers[stolen])
    assert 5 < len(hit) < SPEC.accounts / 5
    during = np.zeros(len(days), dtype=bool)
    ratios = []
    for customer in hit:
        rows = customers == customer
        first, last = days[rows & stolen][[0, -1]]
        assert last - first < 14
        during |= rows & (days >= first) & (days <= last)
        ratios.append(amounts[rows & stolen].mean() / amounts[rows & (scenario == 0)].mean())
    assert np.mean(ratios) == pytest.approx(5, rel=0.15)
    # Seen from the first theft to the last, so a little over a third.
    assert 0.3 < stolen[during].mean() < 0.45
    assert not (np.rint(amounts[stolen] * 100) % 5).any()


@pytest.mark.parametrize("rate", [0.001, 0.008, 0.05, 0.3, 0.49])
def test_the_fraud_rate_is_met(rate):
    table = simulate(Simulation(days=60, accounts=1500, seed=1, fraud_rate=rate))
    scenario = column(table, "TX_FRAUD_SCENARIO")
    assert column(table, "TX_FRAUD").mean() == pytest.approx(rate, rel=0.1)
    assert all((scenario == kind).any() for kind in (1, 2, 3))


def test_frauds_are_as_frequent_at_the_beginning_as_at_the_end():
    table = simulate(Simulation(days=90, accounts=4000, fraud_rate=0.1))
    fraud = column(table, "TX_FRAUD")
    tenth = len(fraud) // 10
    assert fraud[:tenth].mean() == pytest.approx(fraud[-tenth:].mean(), rel=0.2)


def test_another_fraud_rate_leaves_the_purchases_as_they_are(table):
    more = simulate(Simulation(days=60, accounts=800, merchants=1000, seed=3, fraud_rate=0.1))
    same = ["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID"]
    assert more.select(same).equals(table.select(same))
    raised = column(more, "TX_AMOUNT") > column(table, "TX_AMOUNT")
    assert (column(more, "TX_FRAUD_SCENARIO")[raised] == 3).all()


def test_few_terminals_are_spread_far_enough_for_most_customers_to_buy():
    table = simulate(Simulation(days=30, accounts=50, merchants=10))
    assert len(np.unique(column(table, "CUSTOMER_ID"))) > 40


def test_a_customer_buys_at_few_terminals_where_there_are_many(table):
    customers, terminals = (column(table, n) - LOWEST for n in ("CUSTOMER_ID", "TERMINAL_ID"))
    pairs = customers * SPEC.merchants + terminals
    share = np.pi * SPEC.reach**2 / SIDE**2
    per_customer = len(np.unique(pairs)) / SPEC.accounts
    assert per_customer == pytest.approx(share * SPEC.merchants, rel=0.25)


def test_no_terminal_in_anybodys_reach_is_a_wrong_call():
    with pytest.raises(UsageError, match=r"no terminal lies within 0\.001"):
        simulate(Simulation(accounts=3, merchants=3, radius=0.001))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"days": 0}, "--days 0"),
        ({"accounts": -1}, "--accounts -1"),
        ({"merchants": 0}, "--merchants 0"),
        ({"seed": -5}, "--seed -5"),
        ({"seed": 2**32}, "--seed 4294967296: must be from 0 to 4294967295"),
        ({"fraud_rate": 0.0}, "--fraud-rate 0.0"),
        ({"fraud_rate": 0.5}, "--fraud-rate 0.5"),
        ({"fraud_rate": float("nan")}, "--fraud-rate nan"),
        ({"radius": 0.0}, "radius 0.0"),
        ({"accounts": 10**9}, "too much for one run"),
        ({"accounts": 1, "days": 10**7}, "ends after the year 9999"),
    ],
)
def test_impossible_parameters_are_refused_by_name(change, message):
    with pytest.raises(UsageError, match=message) as refusal:
        Simulation(**change)
    assert "\n" not in str(refusal.value)


@settings(deadline=None, max_examples=60)
@given(
    days=st.integers(1, 40),
    accounts=st.integers(1, 30),
    merchants=st.integers(1, 60),
    seed=st.integers(0, MAX_SEED),
    fraud_rate=st.floats(1e-6, 0.499),
)
def test_small_simulations_are_well_formed(days, accounts, merchants, seed, fraud_rate):
    spec = Simulation(days, accounts, merchants, seed, fraud_rate, radius=2 * SIDE)
    table = simulate(spec)
    assert table.schema.equals(TRANSACTIONS)
    if table.num_rows:
        when = table["TX_DATETIME"].to_pylist()
        assert when == sorted(when)
        assert datetime(2024, 1, 1) <= when[0]
        assert (when[-1] - datetime(2024, 1, 1)).days < days
        for name, most in (("CUSTOMER_ID", accounts), ("TERMINAL_ID", merchants)):
            numbers = column(table, name) - seed * 10**9
            assert (numbers.min() >= 0) & (numbers.max() < most)
        assert column(table, "TX_AMOUNT").min() > 0
        genuine = column(table, "TX_FRAUD_SCENARIO") == 0
        assert genuine.any() or table.num_rows < 4


def test_a_million_transactions_take_seconds():
    began = time.perf_counter()
    table = simulate(Simulation(accounts=5700))
    assert table.num_rows > 1_000_000
    assert time.perf_counter() - began < 10
