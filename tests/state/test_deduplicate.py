"""The first row of an id passes, within the horizon."""

from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.features.hashing import IdHash
from beam_fraud.state.deduplicate import DeduplicateShard
from tests.shard_host import Event, Host, ids_of, newest_row, transactions

HORIZON = 100
HASH = IdHash.random()
#: Of the state of a clock of one block, which moves with each row.
CLOCK_BYTES = 40


class Left:
    """A shard and the number of its duplicates."""

    def __init__(self, horizon: int = HORIZON) -> None:
        self.left_out = 0
        self.shard = DeduplicateShard(horizon, self._count, HASH, newest_row())
        self.shard.restore([])

    def _count(self, rows: int) -> None:
        self.left_out += rows

    def take(self, *rows: tuple[str, int]) -> list[str]:
        """Return the ids that pass, of these ids and event times."""
        batch = transactions([id for id, _ in rows], [time for _, time in rows])
        return ids_of(self.shard.take(batch).rows)


def test_a_repeated_id_is_left_out_and_counted() -> None:
    step = Left()
    assert step.take(("a", 0), ("b", 1), ("a", 2)) == ["a", "b"]
    assert step.take(("b", 1), ("c", 3)) == ["c"]
    assert step.left_out == 2


def test_the_first_row_of_an_id_passes_with_all_columns() -> None:
    shard = DeduplicateShard(HORIZON, lambda rows: None, HASH)
    batch = transactions(["a", "b", "a"], [7, 8, 9], source="t:3", start=40)
    (out,) = shard.take(batch).rows
    assert out.equals(batch[:2])
    assert out.schema.metadata == batch.schema.metadata


def test_a_batch_without_repeats_passes_unchanged() -> None:
    batch = transactions(["a", "b"], [1, 2])
    (out,) = DeduplicateShard(HORIZON, lambda rows: None, HASH).take(batch).rows
    assert out is batch


def test_a_batch_of_repeats_passes_nothing_and_stores_nothing() -> None:
    step = Left()
    step.take(("a", 0))
    effects = step.shard.take(transactions(["a", "a"], [0, 0]))
    assert (effects.rows, effects.deltas) == ((), ())
    assert step.left_out == 2


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 60)), min_size=1)))
def test_an_id_is_known_for_the_horizon_at_least_and_for_twice_at_most(
    blocks: list[list[tuple[int, int]]],
) -> None:
    step, newest = Left(), 0
    #: Newest event time when each id went on last.
    went_on: dict[str, int] = {}
    for number, block in enumerate(blocks):
        rows = [(str(id), number * 30 + ahead) for id, ahead in block]
        newest = max(newest, *(time for _, time in rows))
        out = step.take(*rows)
        assert len(out) == len(set(out))
        for id in {id for id, _ in rows}:
            if id in out:
                assert newest - went_on.get(id, -HORIZON) >= HORIZON
                went_on[id] = newest
            else:
                # A batch starts one generation at most, so gaps count up to its step.
                assert newest - went_on[id] < 2 * HORIZON + 90


def test_one_time_far_ahead_expires_no_id() -> None:
    step = Left()
    step.take(("a", 0))
    step.take(("b", 50), ("far", 1_000_000_000))
    assert step.take(("a", 60), ("b", 60), ("far", 60)) == []
    step.take(("c", 90))
    assert step.take(("a", 95), ("c", 95)) == []


def test_deltas_of_an_expired_generation_may_be_dropped() -> None:
    step = Left()
    deltas = [
        step.shard.take(transactions([str(time)], [time])).deltas[0] for time in (0, 120, 240, 250)
    ]
    needed = [delta.newest >= step.shard.needed_from for delta in deltas]
    assert needed == [False, True, True, True]


def test_merging_drops_expired_ids() -> None:
    step = Left()
    deltas = [
        step.shard.take(transactions([str(time)], [time])).deltas[0] for time in (0, 10, 120, 240)
    ]
    merged = step.shard.merge([delta.data for delta in deltas])
    assert len(merged) == len(deltas[2].data) + len(deltas[3].data) - CLOCK_BYTES


def test_state_takes_sixteen_bytes_an_id_and_nothing_a_repeat() -> None:
    step = Left()
    for first in (0, 500):
        ids = [str(i) for i in range(first, first + 1_000)]
        (delta,) = step.shard.take(transactions(ids, [5] * 1_000)).deltas
        assert len(delta.data) == 16 * (1_000 - first) + 24 + CLOCK_BYTES


def test_first_rows_after_a_restart_that_are_far_ahead_stop_no_generation() -> None:
    host = Host(lambda clock: DeduplicateShard(1_000, lambda rows: None, HASH))
    for number in range(20):
        ids = [f"{number}:{i}" for i in range(100)]
        host.bundle([Event(0.0, transactions(ids, list(range(number * 100, number * 100 + 100))))])
    host.restore()
    host.bundle([Event(0.0, transactions([f"far {i}" for i in range(64)], [10**12] * 64))])
    for number in range(20, 60):
        ids = [f"{number}:{i}" for i in range(100)]
        host.bundle([Event(0.0, transactions(ids, list(range(number * 100, number * 100 + 100))))])
        host.drop()
    # Two generations of a thousand ids or little more, not all since the restart.
    assert sum(len(delta.data) for delta in host.kept) < 60_000
    host.bundle([Event(0.0, transactions(["20:1"], [6_000]))])
    assert ids_of(host.rows[-1:]) == ["20:1"]


def test_rows_years_ahead_expire_no_id_and_memory_stays_bounded() -> None:
    hour, year = 3_600, 365 * 24 * 3_600
    host = Host(lambda clock: DeduplicateShard(24 * hour, lambda rows: None, HASH))
    host.bundle([Event(0.0, transactions(["first"], [20 * year]))])
    most = 0
    for number in range(24 * 12):
        ids = [f"{number}:{i}" for i in range(100)]
        times = [number * hour + 36 * i for i in range(100)]
        times[7], times[55] = (20 + number) * year, number * hour + 9 * hour
        host.bundle([Event(0.0, transactions(ids, times))])
        # What came half a day ago comes again.
        again = [id.replace(f"{number}:", f"{max(number - 12, 0)}:") for id in ids]
        before = len(host.rows)
        host.bundle([Event(0.0, transactions(again, times))])
        assert ids_of(host.rows[before:]) == []
        host.merge(8)
        host.drop()
        if number % 40 == 39:
            host.restore()
        most = max(most, sum(len(delta.data) for delta in host.kept))
    # Two generations of a day and a half at most, 16 bytes a row and headers.
    assert most < 20 * 100 * 24 * 4


def test_state_of_an_earlier_version_is_restored() -> None:
    hour, year = 3_600, 365 * 24 * 3_600
    old = Left(24 * hour)
    deltas = old.shard.take(transactions(["a", "b"], [5, 20 * year])).deltas
    shard = DeduplicateShard(24 * hour, lambda rows: None, HASH)
    # Without the clock, which began again with each start.
    shard.restore([delta.data[:-CLOCK_BYTES] for delta in deltas])
    assert shard.take(transactions(["a", "b"], [6, 7])).rows == ()
    for day in range(4):
        times = [day * 24 * hour + 60 * i for i in range(1_440)]
        shard.take(transactions([f"{day}:{i}" for i in range(1_440)], times))
    # That generation is forgotten in the end.
    assert ids_of(shard.take(transactions(["a"], [96 * hour])).rows) == ["a"]
