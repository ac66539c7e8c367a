"""Simulated traffic follows the calendar and grows; frauds change on a day."""

from __future__ import annotations

import json
from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from beam_fraud.errors import Code, UsageError
from beam_fraud.simulate.messages import handbook_messages
from beam_fraud.simulate.seasons import Seasons
from beam_fraud.simulate.simulation import TERMINAL_TYPE, TRANSACTIONS, Simulation, simulate

CHANGE = date(2024, 3, 1)
PLAIN = Simulation(days=84, accounts=1000, merchants=500, seed=5)


def days_of(table: pa.Table) -> np.ndarray:
    return table["TX_DATETIME"].to_numpy().astype("datetime64[D]")


def a_day(table: pa.Table, chosen: np.ndarray) -> float:
    """Return the rows a day on chosen days of `PLAIN`."""
    days = np.datetime64(PLAIN.start) + np.arange(PLAIN.days)
    counts = np.bincount((days_of(table) - days[0]).astype(int), minlength=PLAIN.days)
    return counts[chosen].mean()


def weekdays() -> np.ndarray:
    return (np.datetime64(PLAIN.start).astype(int) + 3 + np.arange(PLAIN.days)) % 7


def of_month() -> np.ndarray:
    days = np.datetime64(PLAIN.start) + np.arange(PLAIN.days)
    return (days - days.astype("datetime64[M]")).astype(int) + 1


def variant(**changes: object) -> pa.Table:
    return simulate(Simulation(**{**vars(PLAIN), **changes}))


def test_weekends_have_their_factor():
    table = variant(seasons=Seasons(weekend=0.5))
    quiet = weekdays() >= 5
    assert a_day(table, quiet) / a_day(table, ~quiet) == pytest.approx(0.5, abs=0.03)


def test_pay_days_have_more_and_larger_purchases():
    table = variant(seasons=Seasons(pay_days=1.5))
    paid = np.isin(of_month(), (25, 26, 27))
    assert a_day(table, paid) / a_day(table, ~paid) == pytest.approx(1.5, abs=0.08)
    row_paid = np.isin(
        (days_of(table) - days_of(table).astype("datetime64[M]")).astype(int), (24, 25, 26)
    )
    amounts = table["TX_AMOUNT"].to_numpy()
    assert np.median(amounts[row_paid]) / np.median(amounts[~row_paid]) == pytest.approx(
        1.5, abs=0.1
    )


def test_accounts_grow_by_the_week():
    table = variant(seasons=Seasons(growth=0.1))
    days = np.arange(PLAIN.days)
    weekly = [a_day(table, days // 7 == week) for week in range(PLAIN.days // 7)]
    growth = np.polyfit(np.arange(len(weekly)), np.log(weekly), 1)[0]
    assert growth == pytest.approx(np.log(1.1), abs=0.015)


def test_flat_seasons_change_nothing():
    assert variant(seasons=Seasons()).equals(simulate(PLAIN))


def test_types_of_terminals_change_nothing_else():
    table = variant(merchant_types=5)
    assert table.drop_columns(["TERMINAL_TYPE"]).equals(simulate(PLAIN))
    assert set(table["TERMINAL_TYPE"].unique().to_pylist()) == {f"type_0{i}" for i in range(1, 6)}


def test_from_a_day_on_all_frauds_are_small_and_at_new_terminals():
    table = variant(merchant_types=5, new_fraud=CHANGE)
    after = days_of(table) >= np.datetime64(CHANGE)
    scenario = table["TX_FRAUD_SCENARIO"].to_numpy()
    assert set(scenario[~after]) == {0, 1, 2, 3}
    assert set(scenario[after]) == {0, 4}
    new = scenario == 4
    assert new[after].mean() == pytest.approx(PLAIN.fraud_rate, rel=0.2)
    assert table["TX_AMOUNT"].to_numpy()[new].max() <= 15
    assert (table["TERMINAL_TYPE"].to_numpy(zero_copy_only=False) == "new").tolist() == new.tolist()
    before = simulate(PLAIN).slice(0, int((~after).sum()))
    assert table.slice(0, before.num_rows).select(TRANSACTIONS.names).equals(before)


def test_messages_have_the_type_where_the_rows_have_it():
    [block] = handbook_messages(variant(days=1, merchant_types=2))
    assert {json.loads(value)[TERMINAL_TYPE.name] for value in block.values} == {
        "type_01",
        "type_02",
    }


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Seasons(weekend=0),
        lambda: Seasons(pay_days=21),
        lambda: Seasons(growth=-0.1),
        lambda: Simulation(merchant_types=0),
        lambda: Simulation(days=10, new_fraud=date(2024, 1, 11)),
    ],
)
def test_impossible_values_are_refused(wrong):
    with pytest.raises(UsageError) as refused:
        wrong()
    assert refused.value.code == Code.OPTION_VALUE
