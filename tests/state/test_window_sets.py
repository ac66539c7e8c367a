"""Windows of other definitions come, fill and go within one step of a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pyarrow as pa
import pytest

from beam_fraud.errors import Code, FraudError
from beam_fraud.features.hashing import IdHash
from beam_fraud.features.velocity.definition_sets import is_further, sources
from beam_fraud.schema.duration import HOUR
from beam_fraud.schema.velocity import Velocity
from beam_fraud.state.chain import ChainShard
from beam_fraud.state.shard import Effects
from beam_fraud.state.velocity import VelocityShard
from beam_fraud.state.window_sets import Filling, Wanted, WindowSetsShard
from tests.failing import fails

ACCOUNT, MERCHANT = ("account_id",), ("merchant_id",)
#: Definitions of the start, and of later models.
FIRST = (Velocity(ACCOUNT, ("2h",), ("count", "mean", "seconds_since_last")),)
LATER = (Velocity(ACCOUNT, ("3h", "5h"), ("count", "std", "max", "seconds_since_last")),)
BY_MERCHANT = (Velocity(MERCHANT, ("4h",), ("count", "mean")),)
HASHING = IdHash(bytes(range(16)))
START = 1_700_000_000_000_000
#: Rows of a batch, ten minutes apart.
ROWS, STEP = 12, HOUR // 6


def batch_of(number: int) -> pa.RecordBatch:
    """Rows of two hours."""
    rows = range(number * ROWS, (number + 1) * ROWS)
    return pa.record_batch(
        {
            "transaction_id": [f"x{n}" for n in rows],
            "event_time": pa.array([START + n * STEP for n in rows], pa.timestamp("us", "UTC")),
            "account_id": [f"a{n % 3}" for n in rows],
            "merchant_id": [f"m{n % 2}" for n in rows],
            "amount": [n % 7 + 0.1 for n in rows],
        }
    )


@dataclass
class Host:
    """Drives a shard, and remembers its deltas as a runner does."""

    first: tuple[Velocity, ...] = FIRST
    filling: Filling = field(default_factory=Filling)
    chained: bool = False
    wanted: Wanted | None = None
    deltas: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.restore()

    def restore(self) -> None:
        windows = partial(VelocityShard, 0, hashing=HASHING)
        self.sets = WindowSetsShard(
            0,
            self.first,
            lambda first: windows(definitions=first),
            lambda further: windows(definitions=further),
            replace(self.filling, wanted=lambda: self.wanted),
        )
        self.shard = ChainShard([self.sets]) if self.chained else self.sets
        self._keep(self.shard.restore(self.deltas))

    def take(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        effects = self.shard.take(batch)
        self._keep(effects)
        return effects.rows[0]

    def merge(self) -> None:
        """Replace all deltas that may be merged, as a compaction does."""
        notes = [data for data, newest in self.kept if newest == (1 << 63) - 1]
        ageing = [data for data, newest in self.kept if newest != (1 << 63) - 1]
        self.deltas = [self.shard.merge(ageing), *notes]

    def _keep(self, effects: Effects) -> None:
        self.kept = [*getattr(self, "kept", []), *((d.data, d.newest) for d in effects.deltas)]
        self.deltas += [delta.data for delta in effects.deltas]


def features(rows: pa.RecordBatch, wanted: Sequence[Velocity]) -> dict[str, bytes] | None:
    """Return the bits of the features of a model in a batch; None if it has not all."""
    found = sources(rows.schema.names, wanted, FIRST)
    if found is None:
        return None
    return {name: np.asarray(rows.column(place)).tobytes() for name, place in found.items()}


def expected(number: int, wanted: tuple[Velocity, ...], since: int = 0) -> dict[str, bytes]:
    """Return the features of a stream that began with a model on all rows."""
    shards = [VelocityShard(0, definitions=(spec,), hashing=HASHING) for spec in wanted]
    for earlier in range(since, number):
        for shard in shards:
            shard.take(batch_of(earlier))
    computed = [shard.observe(batch_of(number))[0] for shard in shards]
    return {name: f.tobytes() for one in computed for name, f in one.items()}


def earlier(last: int) -> Iterator[pa.RecordBatch]:
    yield from map(batch_of, range(last))


@pytest.mark.parametrize("chained", [False, True])
def test_a_set_filled_from_history_has_the_bits_of_a_stream_that_began_with_it(
    chained: bool,
) -> None:
    host = Host(filling=Filling(history=lambda: earlier(5)), chained=chained)
    for number in range(5):
        host.take(batch_of(number))
    host.wanted = (FIRST, LATER)
    for number in range(5, 8):
        rows = host.take(batch_of(number))
        assert features(rows, LATER) == expected(number, LATER)
        # What decided before goes on, for rows of a model that does not take over.
        assert features(rows, FIRST) == expected(number, FIRST)
        assert features(rows, LATER) != expected(number, LATER, since=5)
        host.restore()


def test_a_set_without_history_emits_nothing_before_its_windows_are_full() -> None:
    host = Host()
    host.take(batch_of(0))
    host.wanted = (FIRST, LATER)
    emitted = []
    for number in range(1, 7):
        rows = host.take(batch_of(number))
        emitted.append(features(rows, LATER) is not None)
        if emitted[-1]:
            assert features(rows, LATER) == expected(number, LATER)
        # A restart, with or without a compaction, goes on where it stopped.
        if number % 2:
            host.merge()
        host.restore()
    # Five hours after the newest row of the batch with which it began.
    assert emitted == [False, False, False, True, True, True]


def test_a_warm_up_ends_the_wait(caplog: pytest.LogCaptureFixture) -> None:
    host = Host(filling=Filling(warm_up=HOUR))
    host.take(batch_of(0))
    host.wanted = (FIRST, LATER)
    assert features(host.take(batch_of(1)), LATER) is None
    rows = host.take(batch_of(2))
    assert features(rows, LATER) == expected(2, LATER, since=1)
    assert features(rows, LATER) != expected(2, LATER)


def test_a_gap_between_history_and_stream_is_no_full_window(
    caplog: pytest.LogCaptureFixture,
) -> None:
    host = Host(filling=Filling(history=lambda: earlier(4)))
    for number in range(6):
        host.take(batch_of(number))
    host.wanted = (FIRST, LATER)
    with caplog.at_level("INFO"):
        assert features(host.take(batch_of(6)), LATER) is None
    assert "what came after them is missing" in caplog.text
    assert [features(host.take(batch_of(n)), LATER) is None for n in (7, 8, 9)] == [
        True,
        True,
        False,
    ]


def test_history_that_cannot_be_read_leaves_the_stream_running(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield batch_of(0)
        raise FraudError("day.csv: is gone", Code.INPUT_MISSING)

    host = Host(filling=Filling(history=broken))
    host.wanted = (FIRST, LATER)
    assert features(host.take(batch_of(1)), LATER) is None
    assert "day.csv: is gone" in caplog.text


def test_definitions_that_a_set_has_are_used_at_once() -> None:
    host = Host()
    part = (Velocity(ACCOUNT, ("2h",), ("mean",)),)
    host.wanted = (FIRST, part)
    rows = host.take(batch_of(0))
    assert features(rows, part) == expected(0, part)
    assert not any(map(is_further, rows.schema.names))
    # As long a look-back belongs to the gap since the last row.
    longer = (Velocity(ACCOUNT, ("4h",), ("seconds_since_last",)),)
    host.wanted = (FIRST, longer)
    assert features(host.take(batch_of(1)), longer) is None


def test_windows_of_another_key_are_in_the_step_that_takes_them() -> None:
    filling = Filling(history=lambda: earlier(1), elsewhere=frozenset({ACCOUNT}))
    host = Host(filling=filling)
    host.take(batch_of(0))
    host.wanted = (FIRST, (*FIRST, *BY_MERCHANT))
    assert features(host.take(batch_of(1)), BY_MERCHANT) is None
    for number in (2, 3):
        rows = host.take(batch_of(number))
    assert features(rows, (*FIRST, *BY_MERCHANT)) == {
        **expected(3, FIRST),
        **expected(3, BY_MERCHANT),
    }
    other = Host(filling=replace(filling, elsewhere=None))
    other.wanted = (FIRST, (*FIRST, *BY_MERCHANT))
    other.take(batch_of(0))
    assert other.sets.ready == [FIRST]


def test_a_set_that_no_model_needs_goes_on_for_its_longest_window_and_is_then_freed() -> None:
    host = Host(filling=Filling(history=lambda: earlier(3)))
    for number in range(3):
        host.take(batch_of(number))
    host.wanted = (FIRST, LATER)
    host.take(batch_of(3))
    host.wanted = (LATER,)
    rows = host.take(batch_of(4))
    # A rollback finds full windows.
    assert features(rows, FIRST) == expected(4, FIRST)
    both = host.sets.rows
    host.restore()
    rows = host.take(batch_of(5))
    assert features(rows, FIRST) == expected(5, FIRST)
    rows = host.take(batch_of(6))
    assert features(rows, FIRST) is None
    assert features(rows, LATER) == expected(6, LATER)
    assert host.sets.ready == [LATER]
    assert host.sets.rows < both
    # Neither a compaction nor a restart brings it back.
    size = sum(map(len, host.deltas))
    host.merge()
    assert sum(map(len, host.deltas)) < 0.6 * size
    host.restore()
    assert features(host.take(batch_of(7)), LATER) == expected(7, LATER)
    assert host.sets.ready == [LATER]
    # A model that needs it later waits again.
    host.wanted = (LATER, FIRST)
    assert features(host.take(batch_of(8)), FIRST) is None
    rows = host.take(batch_of(10))
    host.restore()
    assert features(rows, FIRST) is not None


def test_a_set_that_a_rollback_needs_again_is_not_dropped() -> None:
    host = Host(filling=Filling(history=lambda: earlier(1)))
    host.take(batch_of(0))
    host.wanted = (FIRST, LATER)
    for number in range(1, 5):
        host.take(batch_of(number))
    host.wanted = (LATER,)
    host.take(batch_of(5))
    host.wanted = (LATER, FIRST)
    host.take(batch_of(6))
    host.wanted = (FIRST,)
    for number in range(7, 12):
        rows = host.take(batch_of(number))
        assert features(rows, FIRST) == expected(number, FIRST)
        host.restore()
    assert features(rows, LATER) is None


def test_what_waits_and_is_needed_no_more_is_dropped_at_once() -> None:
    host = Host()
    host.wanted = (FIRST, LATER)
    host.take(batch_of(0))
    before = host.sets.rows
    host.wanted = (FIRST,)
    rows = host.take(batch_of(1))
    assert host.sets.rows < 2 * before
    assert features(rows, FIRST) == expected(1, FIRST)
    host.restore()
    assert features(host.take(batch_of(2)), FIRST) == expected(2, FIRST)


def test_until_it_is_known_what_shall_decide_nothing_is_dropped() -> None:
    host = Host()
    host.wanted = (FIRST, LATER)
    host.take(batch_of(0))
    host.wanted = None
    host.restore()
    for number in range(1, 5):
        rows = host.take(batch_of(number))
    assert features(rows, LATER) == expected(4, LATER)


def test_the_state_of_a_stream_that_never_changed_is_that_of_one_set() -> None:
    host, alone = Host(), VelocityShard(0, definitions=FIRST, hashing=HASHING)
    host.wanted = (FIRST,)
    for number in range(3):
        alone_deltas = alone.take(batch_of(number)).deltas
        host.take(batch_of(number))
        assert host.deltas[-1] == alone_deltas[0].data
    assert host.sets.merge(host.deltas) == alone.merge(host.deltas)


def test_a_damaged_state_is_refused() -> None:
    host = Host()
    host.wanted = (FIRST, LATER)
    host.take(batch_of(0))
    host.deltas[-1] = host.deltas[-1][:-5]
    with fails(Code.STATE_UNREADABLE):
        host.restore()
