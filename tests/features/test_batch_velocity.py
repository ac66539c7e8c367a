"""The batch engine against the slow reference."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.features.velocity.batch.batch_features import batch_features
from beam_fraud.features.velocity.key_rows import Frauds, KeyRows
from beam_fraud.schema.velocity import AGGREGATES, Velocity
from tests.velocity_reference import DAY, HOUR, SPECS, keyed_rows, reference

#: Slices of one row, of a few, and of all rows.
SLICES = st.sampled_from([1, 2, 5, 1000])


def assert_same(features: dict[str, np.ndarray], expected: dict[str, list[float]]) -> None:
    assert list(features) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(features[name], np.array(values, dtype=float), name)


@settings(deadline=None, max_examples=60)
@given(keyed_rows(), SLICES)
def test_features_of_complete_data_follow_the_definition(
    drawn: tuple[KeyRows, Frauds], slice_rows: int
) -> None:
    rows, frauds = drawn
    features = batch_features(rows, frauds, SPECS, slice_rows=slice_rows)
    assert_same(features, reference(rows, frauds, SPECS))


@settings(deadline=None, max_examples=60)
@given(keyed_rows(), SLICES, st.randoms(use_true_random=False), st.booleans())
def test_a_row_sees_earlier_arrivals(
    drawn: tuple[KeyRows, Frauds], slice_rows: int, random, shuffle: bool
) -> None:
    rows, frauds = drawn
    arrival = list(range(10, 10 + len(rows)))
    if shuffle:
        random.shuffle(arrival)
    arrived = np.array(arrival, dtype=np.int64)
    features = batch_features(rows, frauds, SPECS, arrived, slice_rows=slice_rows)
    assert_same(features, reference(rows, frauds, SPECS, arrival))


@settings(deadline=None, max_examples=60)
@given(keyed_rows(max_size=15), st.data(), SLICES)
def test_frauds_may_be_known_with_any_row(
    drawn: tuple[KeyRows, Frauds], data: st.DataObject, slice_rows: int
) -> None:
    rows, _ = drawn
    message = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from([1, 2, 3, 2**64 - 1]),
                st.integers(-2, 60),
                st.integers(0, 30),
                st.integers(0, max(len(rows) - 1, 0)),
            ),
            max_size=10 if len(rows) else 0,
        )
    )
    columns = np.array([fraud[1:] for fraud in message], dtype=np.int64).reshape(-1, 3)
    time = 17 * DAY + columns[:, 0] * HOUR
    key = np.array([fraud[0] for fraud in message], dtype=np.uint64)
    row = columns[:, 2] if data.draw(st.booleans()) else None
    frauds = Frauds(key, time, time + columns[:, 1] * HOUR, row)
    arrival = np.array(data.draw(st.permutations(range(len(rows)))), dtype=np.int64)
    for order in (None, arrival):
        features = batch_features(rows, frauds, SPECS[1:], order, slice_rows=slice_rows)
        assert_same(features, reference(rows, frauds, SPECS[1:], order))


def test_dividing_a_large_key_changes_no_feature() -> None:
    rng = np.random.default_rng(7)
    n = 3000
    rows = KeyRows(
        np.where(rng.random(n) < 0.9, 1, 2).astype(np.uint64),
        np.sort(rng.integers(0, 30 * DAY, n)) // HOUR * HOUR,
        rng.integers(-(10**6), 10**6, n),
        rng.integers(0, 9, n).astype(np.uint64),
    )
    places = np.flatnonzero(rng.random(n) < 0.05)
    frauds = Frauds(rows.key[places], rows.time[places], rows.time[places], places)
    late = np.argsort(np.arange(n) + np.where(rng.random(n) < 0.01, rng.integers(0, 500, n), 0))
    arrival = np.argsort(late)
    for order in (None, arrival):
        whole = batch_features(rows, frauds, SPECS, order)
        for slice_rows in (300, 1000):
            cut = batch_features(rows, frauds, SPECS, order, slice_rows=slice_rows)
            for name, feature in whole.items():
                np.testing.assert_array_equal(cut[name], feature, name)


def test_rows_replayed_in_another_order_of_positions_give_the_same() -> None:
    rng = np.random.default_rng(8)
    n = 400
    rows = KeyRows(
        rng.integers(0, 3, n).astype(np.uint64),
        rng.integers(0, 10 * DAY, n),
        rng.integers(0, 10**6, n),
        rng.integers(0, 9, n).astype(np.uint64),
    )
    arrival, places = rng.permutation(n), rng.permutation(n)
    features = batch_features(rows, None, SPECS, arrival)
    moved = batch_features(rows.take(places), None, SPECS, arrival[places])
    for name, feature in features.items():
        np.testing.assert_array_equal(moved[name], feature[places], name)


def test_more_than_65536_keys_stay_distinct() -> None:
    keys = np.arange(70_000, dtype=np.uint64)
    key = np.concatenate((keys, keys[::-1]))
    rows = KeyRows(key, np.repeat([0, HOUR], len(keys)), np.ones(len(key), dtype=np.int64))
    count = batch_features(rows, None, [Velocity(("mcc",), ("1d",), ("count",))])["mcc_count_1d"]
    assert (count == np.repeat([1.0, 2.0], len(keys))).all()


def test_keys_whose_times_are_centuries_apart_fit_on_a_line() -> None:
    keys = np.arange(3000, dtype=np.uint64)
    time = np.tile([-(6 * 10**16), 2 * 10**17, 2 * 10**17 + HOUR], len(keys))
    rows = KeyRows(np.repeat(keys, 3), time, np.ones(len(time), dtype=np.int64))
    spec = Velocity(("mcc",), ("36500d",), ("count",))
    assert (batch_features(rows, None, [spec])["mcc_count_36500d"][:6] == [1, 1, 2] * 2).all()
    assert (batch_features(rows, None, [spec])["mcc_count_36500d"].sum()) == 4 * len(keys)


def test_a_fraud_that_arrives_late_is_not_known_to_the_row_just_before() -> None:
    time = np.array([5 * HOUR, 0, 5 * HOUR])
    rows = KeyRows(np.ones(3, dtype=np.uint64), time, np.ones(3, dtype=np.int64))
    place = np.array([1])
    frauds = Frauds(rows.key[place], rows.time[place], rows.time[place], place)
    spec = Velocity(("mcc",), ("1d",), ("count", "risk"), delay="1h")
    features = batch_features(rows, frauds, [spec], np.arange(3))
    assert features["mcc_count_1d_delay_1h"].tolist() == [0, 0, 1]
    assert features["mcc_risk_1d_delay_1h"].tolist() == [0, 0, 1]
    # With a row in the window all the same, only the fraud is what it does not know of.
    early = KeyRows(*(np.concatenate((a[:1], a)) for a in (rows.key, rows.time, rows.amount)))
    early.time[0] = 0
    known = Frauds(frauds.key, frauds.time, frauds.visible, place + 1)
    risk = batch_features(early, known, [spec], np.arange(4))["mcc_risk_1d_delay_1h"]
    assert risk.tolist() == [0, 0, 0, 0.5]


@given(keyed_rows(max_size=12))
@settings(deadline=None, max_examples=50)
def test_only_the_declared_features_are_undefined(drawn: tuple[KeyRows, Frauds]) -> None:
    rows, frauds = drawn
    for delay in ("0d", "1d"):
        kinds = [name for name in AGGREGATES if name != "risk" or delay != "0d"]
        spec = Velocity(("account_id",), ("1h", "2d"), tuple(kinds), delay)
        for name, values in batch_features(rows, frauds, [spec]).items():
            assert name in spec.undefined_names or not np.isnan(values).any(), name
