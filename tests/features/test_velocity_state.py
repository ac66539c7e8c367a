"""The state engine agrees with the definition for any division of its input."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.errors import FraudError
from beam_fraud.features.event_clock import ClockState
from beam_fraud.features.velocity.batch.batch_features import batch_features
from beam_fraud.features.velocity.key_rows import Frauds, KeyRows
from beam_fraud.features.velocity.state import row_runs, window_scan
from beam_fraud.features.velocity.state import row_runs as key_slots
from beam_fraud.features.velocity.state.row_runs import KeySlots
from beam_fraud.features.velocity.state.state_delta import StateDelta
from beam_fraud.features.velocity.state.velocity_state import VelocityState
from beam_fraud.schema.presets import HANDBOOK, LEDGER
from beam_fraud.schema.velocity import AGGREGATES, Velocity
from tests.shard_host import newest_row
from tests.velocity_reference import DAY, HOUR, SPECS, keyed_rows, reference

#: Longer than any series of steps that `keyed_rows` draws.
LONG = 500 * DAY
Features = dict[str, np.ndarray]


def batches(rows: KeyRows, frauds: Frauds, sizes: Sequence[int]) -> list[tuple[KeyRows, Frauds]]:
    """Yield micro-batches of these sizes in turn, each with its frauds."""
    assert frauds.row is not None
    parts, start = [], 0
    for turn in range(len(rows)):
        stop = min(start + sizes[turn % len(sizes)], len(rows))
        brought = frauds.take((frauds.row >= start) & (frauds.row < stop))
        assert brought.row is not None
        parts.append((rows.take(slice(start, stop)), replace(brought, row=brought.row - start)))
        start = stop
        if start == len(rows):
            break
    return parts


def joined(parts: Sequence[Features]) -> Features:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def assert_same(features: Features, expected: dict[str, list[float]]) -> None:
    assert list(features) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(features[name], np.array(values, dtype=float), err_msg=name)


def restored(kept: Sequence[StateDelta], specs: Sequence[Velocity] = SPECS) -> VelocityState:
    """The state that a shard restores of its deltas."""
    state = VelocityState(specs, lateness=LONG)
    for delta in kept:
        state.add(delta.rows)
        state.label(delta.labels.frauds, delta.labels.fraud)
        state.label(delta.nameless)
    return state


sizes = st.lists(st.integers(1, 12), min_size=1, max_size=4)


@settings(deadline=None, max_examples=50)
@given(keyed_rows(), sizes, st.integers(1, 8))
def test_equals_the_reference_for_any_batches(
    drawn: tuple[KeyRows, Frauds], sizes: list[int], growth: int
) -> None:
    rows, frauds = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_runs, "_GROWTH", growth)
        state = VelocityState(SPECS, lateness=LONG)
        parts = [state.update(*batch) for batch in batches(rows, frauds, sizes)]
    if parts:
        assert_same(joined(parts), reference(rows, frauds, SPECS, range(len(rows))))


@settings(deadline=None, max_examples=50)
@given(keyed_rows(), sizes, st.integers(1, 8), st.lists(st.booleans(), min_size=1), st.booleans())
def test_equals_the_reference_while_a_thread_joins_runs(
    drawn: tuple[KeyRows, Frauds], sizes: list[int], growth: int, done: list[bool], expires: bool
) -> None:
    rows, frauds = drawn
    late = int((np.maximum.accumulate(rows.time) - rows.time).max(initial=0))
    seen_done = itertools.cycle(done)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_runs, "_GROWTH", growth)
        patch.setattr(row_runs, "_MANY", 3)
        patch.setattr(row_runs._Join, "done", property(lambda _: next(seen_done)))
        state = VelocityState(SPECS, lateness=late if expires else LONG)
        parts = [state.update(*batch) for batch in batches(rows, frauds, sizes)]
        state.expire()
    if parts:
        assert_same(joined(parts), reference(rows, frauds, SPECS, range(len(rows))))


@settings(deadline=None, max_examples=50)
@given(keyed_rows(), sizes, st.lists(st.integers(0, 40)), st.integers(1, 3))
def test_equals_the_reference_over_shards_that_are_restored(
    drawn: tuple[KeyRows, Frauds], sizes: list[int], stops: list[int], shards: int
) -> None:
    rows, frauds = drawn
    states = [VelocityState(SPECS, lateness=LONG) for _ in range(shards)]
    kept: list[list[StateDelta]] = [[] for _ in states]
    parts = []
    for number, (batch, brought) in enumerate(batches(rows, frauds, sizes)):
        assert brought.row is not None
        features = {name: np.zeros(len(batch)) for spec in SPECS for name in spec.names}
        for shard, state in enumerate(states):
            own = batch.key % np.uint64(shards) == shard
            part = brought.take(own[brought.row])
            assert part.row is not None
            part = replace(part, row=(np.cumsum(own) - 1)[part.row])
            kept[shard].append(StateDelta.of(batch.take(own), part))
            for name, feature in state.update(batch.take(own), part).items():
                features[name][own] = feature
        parts.append(features)
        if number in stops:
            states = [restored(deltas) for deltas in kept]
    if parts:
        assert_same(joined(parts), reference(rows, frauds, SPECS, range(len(rows))))


@settings(deadline=None, max_examples=50)
@given(keyed_rows(), sizes)
def test_expiry_changes_nothing_for_rows_in_time(
    drawn: tuple[KeyRows, Frauds], sizes: list[int]
) -> None:
    rows, frauds = drawn
    late = int((np.maximum.accumulate(rows.time) - rows.time).max(initial=0))
    state, parts = VelocityState(SPECS, lateness=late), []
    for batch in batches(rows, frauds, sizes):
        parts.append(state.update(*batch))
        state.expire()
    if parts:
        assert_same(joined(parts), reference(rows, frauds, SPECS, range(len(rows))))


@settings(deadline=None, max_examples=50)
@given(keyed_rows(), st.integers(0, 40))
def test_rows_added_without_features_are_seen(drawn: tuple[KeyRows, Frauds], first: int) -> None:
    rows, frauds = drawn
    assert frauds.row is not None
    old, new = frauds.take(frauds.row < first), frauds.take(frauds.row >= first)
    assert new.row is not None
    state = VelocityState(SPECS, lateness=LONG)
    state.add(rows.take(slice(None, first)), old)
    features = state.update(rows.take(slice(first, None)), replace(new, row=new.row - first))
    expected = reference(rows, frauds, SPECS, range(len(rows)))
    assert_same(features, {name: values[first:] for name, values in expected.items()})


@settings(deadline=None, max_examples=50)
@given(keyed_rows(), sizes, st.data())
def test_labels_may_come_late_and_more_than_once(
    drawn: tuple[KeyRows, Frauds], sizes: list[int], data: st.DataObject
) -> None:
    rows, frauds = drawn
    fraud = data.draw(st.lists(st.booleans(), min_size=len(frauds), max_size=len(frauds)))
    again = data.draw(st.permutations([*range(len(frauds))] * 2))
    state = VelocityState(SPECS, lateness=LONG)
    parts = []
    message = np.zeros(len(frauds), dtype=bool)
    labels = iter(again)
    for batch, _ in batches(rows, frauds, sizes):
        places = [place for place, _ in zip(labels, range(3), strict=False)]
        report = np.array([fraud[place] for place in places], dtype=bool)
        state.label(replace(frauds, row=None).take(np.array(places, dtype=int)), report)
        for place, is_fraud in zip(places, report, strict=True):
            message[place] = is_fraud
        parts.append((state.update(batch), len(batch), message.copy()))
    start = 0
    for features, size, known in parts:
        seen = rows.take(slice(None, start + size))
        expected = reference(seen, replace(frauds, row=None).take(known), SPECS, range(len(seen)))
        assert_same(features, {name: values[start:] for name, values in expected.items()})
        start += size


EVERY = [name for name in AGGREGATES if name != "risk"]
MANY = {
    "account": HANDBOOK.velocity[:1],
    "merchant": HANDBOOK.velocity[1:],
    "ledger": tuple(spec for spec in LEDGER.velocity if spec.key == ("account_id",)),
    "every": (Velocity(("account_id",), ("1d", "30d"), tuple(EVERY)),),
    "every delayed": (Velocity(("account_id",), ("2d", "30d"), AGGREGATES, "1d"),),
}


@pytest.mark.parametrize("specs", MANY.values(), ids=MANY)
@pytest.mark.parametrize("size", [97, 1000, 12_000])
def test_equals_the_batch_engine_on_many_rows(specs: Sequence[Velocity], size: int) -> None:
    rows, frauds = many_rows(np.random.default_rng(3))
    late = int((np.maximum.accumulate(rows.time) - rows.time).max())
    state = VelocityState(specs, late)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window_scan, "_TOGETHER", 5000)
        parts = [state.update(*batch) for batch in batches(rows, frauds, [size])]
    expected = batch_features(rows, frauds, specs, np.arange(len(rows)))
    assert_same(joined(parts), {name: list(feature) for name, feature in expected.items()})
    assert state.rows < len(rows)


@pytest.mark.parametrize("order", ["backwards", "shuffled"])
def test_rows_in_no_order_are_seen_as_they_arrive(order: str) -> None:
    rows, frauds = many_rows(np.random.default_rng(5))
    shuffled = np.random.default_rng(7).permutation(3000)
    rows = rows.take(np.arange(3000)[::-1] if order == "backwards" else shuffled)
    # Few keys, so that a batch has more chains than are followed at once.
    rows = replace(rows, key=rows.key % np.uint64(10))
    nobody = frauds.take(slice(0, 0))
    specs = [Velocity(("account_id",), ("1d", "30d"), tuple(EVERY))]
    state = VelocityState(specs, lateness=LONG)
    parts = [state.update(*batch) for batch in batches(rows, nobody, [1500])]
    expected = batch_features(rows, None, specs, np.arange(len(rows)))
    assert_same(joined(parts), {name: list(feature) for name, feature in expected.items()})


def many_rows(rng: np.random.Generator) -> tuple[KeyRows, Frauds]:
    """Four months of rows, most in order, one in twenty late, one in thirty a fraud."""
    n = 12_000
    time = np.sort(rng.integers(0, 120 * DAY // HOUR, n)) * HOUR
    late = np.flatnonzero(rng.random(n) < 0.05)
    time[late] -= rng.integers(0, 9 * DAY, len(late))
    rows = KeyRows(
        rng.integers(0, 300, n).astype(np.uint64) ** 9,
        time,
        rng.integers(-(10**5), 10**7, n),
        rng.integers(0, 20, n).astype(np.uint64),
    )
    places = np.flatnonzero(rng.random(n) < 1 / 30)
    visible = time[places] + rng.integers(-DAY, 10 * DAY, len(places))
    return rows, Frauds(rows.key[places], time[places], visible, places, places.astype(np.uint64))


RISK = Velocity(("merchant_id",), ("7d",), ("count", "risk"), delay="1d")


def fraud_of(key: int, time: int, transaction: int | None = 1) -> Frauds:
    ids = None if transaction is None else np.array([transaction], dtype=np.uint64)
    times = np.array([time])
    return Frauds(np.array([key], dtype=np.uint64), times, times, None, ids)


def row_of(key: int, time: int) -> KeyRows:
    return KeyRows(np.array([key], dtype=np.uint64), np.array([time]), np.array([10_000]))


def risk(state: VelocityState, key: int, time: int) -> float:
    return float(state.update(row_of(key, time))["merchant_risk_7d_delay_1d"][0])


def test_a_label_can_be_withdrawn_and_set_again() -> None:
    state = VelocityState([RISK])
    state.add(row_of(7, 0))
    state.label(fraud_of(7, 0))
    state.label(fraud_of(7, 0))
    assert risk(state, 7, DAY) == 1.0
    state.label(fraud_of(7, 0), np.array([False]))
    assert risk(state, 7, DAY + 1) == 0.0
    state.label(fraud_of(7, 0))
    assert risk(state, 7, DAY + 2) == 1.0


def test_frauds_without_id_count_each_and_are_restored() -> None:
    frauds = (fraud_of(7, 0, None), fraud_of(7, 0, None), fraud_of(7, 0), None)
    state = VelocityState([RISK])
    for fraud in frauds:
        state.add(row_of(7, 0), fraud)
    assert risk(state, 7, DAY) == 0.75
    kept = [StateDelta.of(row_of(7, 0), fraud) for fraud in frauds]
    assert risk(restored(kept, [RISK]), 7, DAY) == 0.75


def test_a_label_without_a_transaction_cannot_be_withdrawn() -> None:
    state = VelocityState([RISK])
    with pytest.raises(FraudError, match="no id"):
        state.label(fraud_of(7, 0, None), np.array([False]))


def test_inactive_accounts_use_no_memory() -> None:
    state = VelocityState([RISK], clock=newest_row())
    many = np.arange(5000, dtype=np.uint64)
    state.update(KeyRows(many, np.zeros(5000, dtype=np.int64), np.ones(5000, dtype=np.int64)))
    state.label(fraud_of(7, 0))
    state.update(row_of(3, 100 * DAY))
    state.expire()
    assert state.rows == 1
    assert state.nbytes < 200


@pytest.mark.parametrize(("many", "most"), [(row_runs._MANY, 1.5), (1_000, 1.7)])
def test_expiry_happens_by_itself_and_memory_stays_flat(
    many: int, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_runs, "_MANY", many)
    rng = np.random.default_rng(0)
    spec = Velocity(("account_id",), ("1d",), ("count", "mean"))
    state = VelocityState([spec])
    rows = []
    for hour in range(24 * 8):
        time = np.sort(rng.integers(hour * HOUR, (hour + 1) * HOUR, 200))
        key = rng.integers(0, 100, 200).astype(np.uint64)
        state.update(KeyRows(key, time, rng.integers(0, 10**6, 200)))
        rows.append(state.rows)
    assert max(rows) < most * 24 * 200


def test_keys_leave_though_a_thread_joins_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_runs, "_MANY", 100)
    state = VelocityState([Velocity(("account_id",), ("1d",), ("count",))])
    sizes = []
    for day in range(200):
        keys = np.arange(day * 100, (day + 1) * 100, dtype=np.uint64)
        times = np.sort(np.full(100, day * DAY) + np.arange(100))
        state.update(KeyRows(keys, times, np.zeros(100, dtype=np.int64)))
        sizes.append(state.nbytes)
    assert max(sizes[100:]) < 1.5 * max(sizes[:100])


def test_a_join_that_fails_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(row_runs, "_MANY", 2)
    monkeypatch.setattr(row_runs, "merged", fails)
    state = VelocityState([Velocity(("account_id",), ("1d",), ("count",))])
    keys = np.arange(50, dtype=np.uint64)
    rows = KeyRows(keys, np.arange(50), np.zeros(50, dtype=np.int64))
    state.update(rows)
    state.update(rows)
    with pytest.raises(MemoryError, match="no room"):
        state.expire()


def every(delay: str) -> Velocity:
    without_risk = tuple(name for name in AGGREGATES if name != "risk")
    aggregates = without_risk if delay == "0d" else AGGREGATES
    return Velocity(("account_id",), ("1d", "7d", "30d"), aggregates, delay)


@pytest.mark.parametrize(
    ("specs", "most"),
    [
        ([Velocity(("account_id",), ("1d", "7d", "30d"), ("count", "mean"))], 20),
        ([every("0d")], 40),
        ([every("7d")], 40),
    ],
)
def test_memory_per_row_in_the_longest_window(specs: list[Velocity], most: int) -> None:
    rng = np.random.default_rng(1)
    state = VelocityState(specs)
    horizon = specs[0].horizon
    span = 2 * horizon
    count = 60_000
    times = np.sort(rng.integers(0, span, count))
    rows = KeyRows(
        rng.integers(0, 1000, count).astype(np.uint64),
        times,
        rng.integers(0, 10**9, count),
        rng.integers(1, 500, count).astype(np.uint64),
    )
    for start in range(0, count, 1000):
        state.update(rows.take(slice(start, start + 1000)))
    inside = int((times > times[-1] - horizon).sum())
    assert state.nbytes / inside <= most


def test_one_row_far_in_time_costs_a_batch_nothing() -> None:
    """Many keys over a wide span exceed the key times of one frame: the batch is split."""
    spec = Velocity(("account_id",), ("7d",), ("count",))
    keys = np.arange(4000, dtype=np.uint64)
    times = np.linspace(0, 1 << 60, 4000).astype(np.int64)
    features = VelocityState([spec]).update(KeyRows(keys, times, np.zeros(4000, dtype=np.int64)))
    assert features["account_count_7d"].tolist() == [1.0] * 4000


def test_too_many_keys_are_refused_in_one_line() -> None:
    spec = Velocity(("account_id",), ("7d",), ("count",))
    state = VelocityState([spec], lateness=1 << 58)
    keys = np.arange(100, dtype=np.uint64)
    with pytest.raises(FraudError, match="account_id: more than 16 keys in one state"):
        state.update(KeyRows(keys, np.zeros(100, dtype=np.int64), np.zeros(100, dtype=np.int64)))


def test_keys_that_left_make_room_for_others() -> None:
    spec = Velocity(("account_id",), ("7d",), ("count",))
    state = VelocityState([spec], 1 << 58, newest_row())
    for turn in range(31):
        features = state.update(row_of(turn, (turn - 15) << 58))
        assert features["account_count_7d"].tolist() == [1.0]
    assert state.rows <= 16


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 30)), max_size=12), st.integers(0, 5))
def test_slots_are_reserved_until_their_keys_are_dropped(
    batches: list[list[int]], recent: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_slots, "_RECENT", recent)
        slots, known = KeySlots(), dict[int, int]()
        for number, keys in enumerate(batches):
            hashes = np.array(keys, dtype=np.uint64)
            for key, slot in zip(keys, slots.of(hashes).tolist(), strict=True):
                assert known.setdefault(key, slot) == slot
            assert sorted(known.values()) == list(range(slots.count))
            assert slots.keys().tolist() == sorted(known, key=known.__getitem__)
            if number % 3 == 2:
                used = slots.keys() % 2 == 0
                renumbered = slots.keep(used)
                known = {key: int(renumbered[slot]) for key, slot in known.items() if not key % 2}


def test_no_rows_give_no_features() -> None:
    nothing = row_of(1, 1).take(slice(0, 0))
    features = VelocityState([RISK]).update(nothing)
    assert {name: len(feature) for name, feature in features.items()} == dict.fromkeys(
        RISK.names, 0
    )


def test_a_delta_with_a_clock_keeps_its_bytes() -> None:
    """State on disks has this form: a change needs another version number."""
    words = (
        "0a01"
        "0200000000000000"
        "0000000000000000"
        "0000000000000000"
        "0900000000000000"
        "0700000000000000"
        "0000000000000080"
        "0a00000000000000"
        "ecffffffffffffff"
        "2c01000000000000"
        "fcffffffffffffff"
        "0100000000000000"
        "0200000000000000"
        "0a00000000000000"
        "0200000000000000"
        "0100000000000000"
        "0500000000000000"
        "0a00000000000000"
        "ecffffffffffffff"
    )
    delta = StateDelta.from_bytes(bytes.fromhex(words), 9)
    assert delta.clock == ClockState(10, [5, 10], [-20])
    assert delta.rows.key.tolist() == [7, 1 << 63]
    assert delta.rows.time.tolist() == [10, -20]
    assert delta.rows.amount.tolist() == [300, -4]
    assert delta.rows.merchant is not None
    assert delta.rows.merchant.tolist() == [1, 2]
    assert delta.to_bytes(9).hex() == words
