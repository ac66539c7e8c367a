"""Amounts of two currencies are never aggregated together, by either engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import beam_fraud as bf
from beam_fraud.errors import Code
from beam_fraud.evaluation.inference.draft import draft_schema
from beam_fraud.evaluation.inference.sample import read_sample
from beam_fraud.features.hashing import IdHash
from beam_fraud.features.velocity.batch.batch_features import batch_features
from beam_fraud.features.velocity.columns import VelocityWalk, with_velocity
from beam_fraud.features.velocity.key_rows import Frauds, KeyRows
from beam_fraud.features.velocity.state import row_runs
from beam_fraud.features.velocity.state.state_delta import StateDelta, joined
from beam_fraud.features.velocity.state.velocity_state import VelocityState
from beam_fraud.schema.schema import Schema
from beam_fraud.schema.toml import schema_from_toml
from beam_fraud.schema.velocity import Velocity
from beam_fraud.storage.urls import Place
from tests.failing import fails
from tests.velocity_reference import DAY, SPECS, SPECS_BY_CURRENCY, reference, rows_in_currencies

Drawn = tuple[KeyRows, Frauds]
pytestmark = pytest.mark.filterwarnings("ignore:velocity features look back")
ROLES = """
[roles]
transaction_id = "id"
event_time = "booked_at"
account_id = "card"
merchant_id = "shop"
amount = "value"
currency = "currency"
label = "fraud"
"""
WINDOWS = """
[[velocity]]
key = "account_id"
windows = ["1h", "7d"]
aggregates = ["count", "mean", "ratio", "std", "distinct_merchant", "seconds_since_last"]

[[velocity]]
key = "merchant_id"
windows = ["7d"]
aggregates = ["sum", "max", "risk"]
delay = "1d"
"""
SCHEMA = schema_from_toml(ROLES + WINDOWS)
MEAN = "account_mean_7d"


def assert_same(features: dict[str, np.ndarray], expected: dict[str, list[float]]) -> None:
    assert list(features) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(features[name], np.array(values, dtype=float), name)


def rows(
    n: int = 400, seed: int = 3, currencies: Sequence[str | None] = ("EUR", "JPY")
) -> pa.Table:
    """Rows of few accounts, a yen amount about 160 times that of a euro."""
    random = np.random.default_rng(seed)
    chosen = random.integers(0, len(currencies), n)
    factor = np.array([160 if code == "JPY" else 1 for code in currencies])[chosen]
    return pa.table(
        {
            "id": [str(number) for number in range(n)],
            "booked_at": pa.array(np.sort(random.integers(0, 20 * DAY, n)) + 10**15).cast(
                pa.timestamp("us", "UTC")
            ),
            "card": [f"c{i}" for i in random.integers(0, 6, n)],
            "shop": [f"s{i}" for i in random.integers(0, 9, n)],
            "value": (random.exponential(40, n) * factor).round(2),
            "currency": pa.array([currencies[i] for i in chosen], pa.string()),
            "fraud": random.integers(0, 2, n),
        }
    )


def features_of(table: pa.Table, schema: Schema) -> pd.DataFrame:
    return bf.features(table, schema).to_pandas()


@settings(deadline=None, max_examples=30)
@given(rows_in_currencies(max_size=25), st.sampled_from([1, 3, 1000]), st.data())
def test_the_batch_engine_follows_the_definition(
    drawn: Drawn, slice_rows: int, data: st.DataObject
) -> None:
    rows, frauds = drawn
    arrival = np.array(data.draw(st.permutations(range(len(rows)))), dtype=np.int64)
    for order in (None, arrival):
        features = batch_features(rows, frauds, SPECS_BY_CURRENCY, order, slice_rows=slice_rows)
        assert_same(features, reference(rows, frauds, SPECS_BY_CURRENCY, order))


@settings(deadline=None, max_examples=30)
@given(rows_in_currencies(), st.integers(1, 12), st.integers(0, 8), st.integers(1, 8))
def test_the_state_engine_follows_the_definition_restored_or_not(
    drawn: Drawn, size: int, stop: int, growth: int
) -> None:
    rows, frauds = drawn
    assert frauds.row is not None
    state, parts, stored = VelocityState(SPECS_BY_CURRENCY, lateness=500 * DAY), [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_runs, "_GROWTH", growth)
        for number, start in enumerate(range(0, len(rows), size)):
            if number == stop:
                kept = (
                    joined([StateDelta.from_bytes(data, 7) for data in stored]) if stored else None
                )
                state = VelocityState(SPECS_BY_CURRENCY, lateness=500 * DAY)
                if kept is not None:
                    state.add(kept.rows)
                    state.label(kept.labels.frauds, kept.labels.fraud)
            some = frauds.take((frauds.row >= start) & (frauds.row < start + size))
            assert some.row is not None
            batch = rows.take(slice(start, start + size)), replace(some, row=some.row - start)
            parts.append(state.update(*batch))
            stored.append(StateDelta.of(*batch).to_bytes(7))
    if parts:
        features = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        assert_same(features, reference(rows, frauds, SPECS_BY_CURRENCY, range(len(rows))))


@settings(deadline=None, max_examples=30)
@given(rows_in_currencies(), st.booleans())
def test_one_currency_gives_the_windows_without_the_role(drawn: Drawn, streamed: bool) -> None:
    rows, frauds = drawn
    rows = replace(rows, of_currency=rows.key + np.uint64(5))

    def features(specs: Sequence[Velocity]) -> dict[str, np.ndarray]:
        if streamed:
            return VelocityState(specs, lateness=500 * DAY).update(rows, frauds)
        return batch_features(rows, frauds, specs)

    expected = features(SPECS)
    for name, values in features(SPECS_BY_CURRENCY).items():
        np.testing.assert_array_equal(values, expected[name], name)


def test_amounts_are_those_of_the_currency_and_counts_those_of_the_account() -> None:
    both = rows()
    mixed = features_of(both, SCHEMA).set_index("transaction_id")
    without = schema_from_toml(ROLES.replace('currency = "currency"', "") + WINDOWS)
    together = features_of(both, without).set_index("transaction_id")
    of_amounts = [name for name in mixed if any(a in name for a in ("mean", "ratio", "std"))]
    of_amounts += ["merchant_sum_7d_delay_1d", "merchant_max_7d_delay_1d"]
    others = [name for name in mixed if name not in of_amounts]
    assert mixed[others].equals(together[others])
    for code in ("EUR", "JPY"):
        alone = both.filter(pa.compute.equal(both["currency"], code))
        own = features_of(alone, without).set_index("transaction_id")
        assert mixed.loc[own.index, of_amounts].equals(own[of_amounts])


def test_a_row_without_a_currency_counts_and_has_no_amounts() -> None:
    table = rows(currencies=("EUR", None, "JPY"))
    features = features_of(table, SCHEMA)
    absent = table["currency"].is_null().to_numpy()
    assert (
        features.loc[absent, [MEAN, "account_ratio_1h", "merchant_sum_7d_delay_1d"]]
        .isna()
        .all(None)
    )
    assert features.loc[~absent, MEAN].notna().all()
    known = table.filter(table["currency"].is_valid())
    alone = features_of(known, SCHEMA)
    assert features.loc[~absent, MEAN].tolist() == alone[MEAN].tolist()
    assert (features["account_count_7d"].to_numpy()[~absent] >= alone["account_count_7d"]).all()
    assert features["account_count_7d"].sum() > 1.2 * alone["account_count_7d"].sum()


def test_blocks_in_order_of_time_give_the_bits_of_all_rows_at_once() -> None:
    dressed = rows(currencies=("EUR", None, "JPY"))
    names = {"booked_at": "event_time", "card": "account_id", "shop": "merchant_id"}
    names |= {"value": "amount", "fraud": "label", "id": "transaction_id"}
    table = dressed.rename_columns([names.get(name, name) for name in dressed.column_names])
    for definition in SCHEMA.velocity:
        walk = VelocityWalk([definition])
        blocks = [walk.add(b) for b in table.combine_chunks().to_batches(max_chunksize=37)]
        whole = with_velocity(table, [definition]).to_pandas()
        assert pa.Table.from_batches(blocks).to_pandas().equals(whole)


def test_an_account_named_like_a_currency_shares_no_window() -> None:
    table = rows(40).set_column(2, "card", pa.array(["EUR", "JPY"] * 20))
    features = features_of(table, SCHEMA)
    plain = table.set_column(2, "card", pa.array(["a", "b"] * 20))
    assert features.equals(features_of(plain, SCHEMA))


def test_codes_are_trimmed_and_in_upper_case() -> None:
    table = rows()
    written = {"EUR": [" eur", "EUR", "978"], "JPY": ["jpy", " JPY ", "392"]}
    dressed = [written[code][i % 3] for i, code in enumerate(table["currency"].to_pylist())]
    features = features_of(table.set_column(5, "currency", pa.array(dressed)), SCHEMA)
    assert features.equals(features_of(table, SCHEMA))


def test_windows_together_are_those_without_the_role() -> None:
    together = schema_from_toml(ROLES + '[currency]\nwindows = "together"\n' + WINDOWS)
    assert Schema.from_dict(together.to_dict()) == together
    without = schema_from_toml(ROLES.replace('currency = "currency"', "") + WINDOWS)
    table = rows()
    assert features_of(table, together).equals(features_of(table, without))


def test_a_schema_of_before_aggregates_as_it_was_trained() -> None:
    values = SCHEMA.to_dict()
    for definition in values["velocity"]:
        del definition["by_currency"]
    before = Schema.from_dict({**values, "reading": 2})
    assert not any(definition.by_currency for definition in before.velocity)
    assert before.to_dict() == {**values, "reading": 2}
    table = rows()
    without = schema_from_toml(ROLES.replace('currency = "currency"', "") + WINDOWS)
    assert features_of(table, before).equals(features_of(table, without))
    assert Schema.from_dict(SCHEMA.to_dict()) == SCHEMA


def test_a_schema_without_the_role_is_stored_as_before() -> None:
    without = schema_from_toml(ROLES.replace('currency = "currency"', "") + WINDOWS)
    assert not any("by_currency" in definition for definition in without.to_dict()["velocity"])
    assert Schema.from_dict(without.to_dict()) == without


def test_a_bundle_keeps_its_windows_whatever_the_schema_says() -> None:
    table = rows(2000)
    without = schema_from_toml(ROLES.replace('currency = "currency"', "") + WINDOWS)
    settings = {"trees": 5}
    bundle = bf.train(table, schema=without, settings=settings)
    assert not any(d.amounts_by_currency for d in bundle.features_in(SCHEMA).velocity)
    apart = bf.train(table, schema=SCHEMA, settings=settings)
    with fails(Code.BUNDLE_SCHEMA, "currency"):
        apart.features_in(without)
    assert "in the transaction's currency" in apart.contents["card.md"].decode()


def test_figures_that_add_up_currencies_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    table, settings = rows(2000), {"trees": 5}
    bf.train(table, schema=SCHEMA, settings=settings)
    assert "in 2 currencies (EUR, JPY)" in caplog.text
    with pytest.warns(UserWarning, match="in 2 currencies"):
        bf.explore(table, schema=SCHEMA)
    caplog.clear()
    euros = table.filter(pa.compute.equal(table["currency"], "EUR"))
    bf.train(euros, schema=SCHEMA, settings=settings)
    together = schema_from_toml(ROLES + '[currency]\nwindows = "together"\n' + WINDOWS)
    bf.train(table, schema=together, settings=settings)
    bf.features(table, SCHEMA)
    assert "currencies" not in caplog.text


def test_a_column_of_two_currencies_is_drafted_as_such(tmp_path: Path) -> None:
    pq.write_table(rows(), tmp_path / "day.parquet")
    draft = draft_schema(read_sample([Place.at(tmp_path / "day.parquet")]))
    assert schema_from_toml(draft.text).role("currency") == "currency"


@pytest.mark.parametrize(
    ("toml", "code", "named"),
    [
        ('[currency]\nwindows = "apart"', Code.SCHEMA_VALUE, "windows"),
        ('[currency]\nwindow = "separate"', Code.SCHEMA_VALUE, "window"),
    ],
)
def test_a_wrong_setting_is_refused(toml: str, code: Code, named: str) -> None:
    with fails(code, named):
        schema_from_toml(ROLES + toml)


def test_the_table_needs_the_role() -> None:
    with fails(Code.ROLE_MISSING, r"\[currency\]"):
        schema_from_toml(ROLES.replace('currency = "currency"', "") + "[currency]")


def test_currencies_of_the_state_need_the_right_hash() -> None:
    hashing = IdHash.random()
    rows = KeyRows(
        *(np.arange(3).astype(kind) for kind in ("u8", "i8", "i8")), None, np.ones(3, "u8")
    )
    data = StateDelta(rows).to_bytes(hashing.fingerprint)
    assert StateDelta.from_bytes(data, hashing.fingerprint).rows.of_currency.tolist() == [1, 1, 1]
    with fails(Code.STREAM_CHANGED):
        StateDelta.from_bytes(data, IdHash.random().fingerprint)
