"""Rows of several partitions are emitted in the order of their event times."""

from collections.abc import Sequence

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.schema.event_time import event_micros
from beam_fraud.sources.raw import POSITION, Origin, origin_of, with_origin
from beam_fraud.state.reorder import ReorderShard
from beam_fraud.state.shard import Delta
from tests.shard_host import TRANSACTIONS, Event, Host, ids_of, transactions

WAIT = 10.0


def host() -> Host:
    return Host(lambda clock: ReorderShard(WAIT, clock))


def rows(source: str, *times: int, now: float = 1_000.0, appended: int | None = None) -> Event:
    """Return rows named by their source and time."""
    ids = [f"{source}{time}" for time in times]
    return Event(now, transactions(ids, times, source=source, start=times[0], appended=appended))


def gone(host: Host, *events: Event) -> list[str]:
    """Return the rows that these events emit."""
    before = len(host.rows)
    host.bundle(events)
    return ids_of(host.rows[before:])


def test_a_row_is_emitted_when_every_source_has_a_later_one() -> None:
    it = host()
    assert gone(it, rows("a", 1, 5)) == ["a1"]
    assert gone(it, rows("b", 2)) == []
    assert gone(it, rows("b", 4, 6)) == ["b2", "b4"]
    # Another row of the time 6 may come, from either source.
    assert gone(it, rows("a", 6)) == ["a5"]
    assert gone(it, rows("a", 7), rows("b", 8)) == ["a6", "b6"]
    assert it.shard.waiting
    it.finish()
    assert ids_of(it.rows)[-2:] == ["a7", "b8"]


def test_rows_of_one_time_are_ordered_by_source_and_position() -> None:
    it = host()
    it.bundle([rows("b", 0, 3, 3), rows("a", 0, 3), rows("b", 3, 4), rows("a", 4)])
    assert ids_of(it.rows) == ["b0", "a0", "a3", "b3", "b3", "b3"]
    positions = [p for batch in it.rows for p in batch.column(POSITION).to_pylist()]
    assert positions == [0, 0, 1, 1, 2, 3]


def test_a_row_waits_at_most_for_the_span() -> None:
    it = host()
    it.bundle([rows("b", 1), rows("b", 2, now=1_004.0), rows("a", 9, now=1_005.0)])
    assert ids_of(it.rows) == ["b1"]
    assert gone(it, Event(1_013.9)) == []
    assert gone(it, Event(1_014.0)) == ["b2"]
    assert gone(it, Event(1_015.0)) == ["a9"]
    assert not it.shard.waiting


def test_earlier_rows_are_emitted_with_a_row_that_has_waited() -> None:
    it = host()
    assert gone(it, rows("c", 1), rows("a", 50), rows("b", 20, now=1_005.0)) == []
    assert gone(it, Event(1_010.0)) == ["c1", "b20", "a50"]


def test_a_silent_source_delays_no_row() -> None:
    it = host()
    it.bundle([rows("a", 1), rows("b", 1)])
    assert gone(it, rows("a", 5, 6, now=1_009.0)) == []
    assert gone(it, rows("a", 7, now=1_010.0)) == ["a1", "b1", "a5", "a6"]
    assert gone(it, rows("a", 8, 9, now=1_011.0)) == ["a7", "a8"]
    # It is heard again.
    assert gone(it, rows("b", 10, now=1_012.0), rows("a", 12, 13, now=1_012.0)) == ["a9"]
    assert gone(it, rows("b", 13, now=1_013.0)) == ["b10", "a12"]


def test_a_clock_that_was_set_back_delays_no_row() -> None:
    it = host()
    it.bundle([rows("b", 1, now=9_000.0), rows("a", 5, now=1_000.0)])
    assert gone(it, rows("a", 6, 7, now=1_009.0)) == []
    assert gone(it, rows("a", 8, now=1_010.0)) == ["b1", "a5", "a6", "a7"]


def test_a_source_that_is_out_of_order_loses_nothing() -> None:
    it = host()
    it.bundle([rows("a", 9, 3, 6), rows("a", 2, 4)])
    assert ids_of(it.rows) == ["a3", "a6", "a2", "a4"]
    it.finish()
    assert ids_of(it.rows)[-1] == "a9"


def test_a_row_ahead_of_this_clock_is_emitted_at_once_and_changes_no_order() -> None:
    it = host()
    far = 9 * 3_600 * 1_000_000 + 1_000_000_000
    assert gone(it, rows("a", 3), rows("b", 1)) == []
    assert gone(it, rows("b", 2, far)) == ["b1", f"b{far}"]
    # It neither says that its source is so far, nor takes the others along when it has waited.
    assert gone(it, rows("a", 4, now=1_009.0), rows("b", 3, now=1_009.0)) == ["b2"]
    assert gone(it, Event(1_010.0)) == ["a3", "b3"]
    it.restore()
    assert gone(it, rows("a", 5, now=1_011.0), rows("b", 6, now=1_011.0)) == ["a4"]


def test_labels_pass_at_once_unchanged() -> None:
    origin = Origin("l:0", "jsonl", content="labels")
    schema = with_origin(pa.schema([("label", pa.int8())]), origin)
    labels = pa.record_batch([pa.array([1], pa.int8())], schema=schema)
    it = host()
    it.bundle([rows("a", 1)])
    effects = it.shard.take(labels)
    assert effects.rows[0] is labels
    assert effects.deltas == ()
    # Nor do they hold anything up.
    assert gone(it, rows("a", 2)) == ["a1"]


def test_the_origin_is_of_the_newest_row_and_as_old_as_the_oldest() -> None:
    it = host()
    it.bundle([rows("c", 0), rows("a", 1, 3, appended=70), rows("b", 2, 9, appended=50)])
    it.bundle([rows("a", 5), rows("c", 4)])
    (batch,) = it.rows
    assert ids_of([batch]) == ["c0", "a1", "b2", "a3"]
    assert origin_of(batch) == Origin("a", "jsonl", appended=50)
    assert batch.schema.equals(TRANSACTIONS)


def test_many_rows_are_emitted_in_batches_of_ten_thousand() -> None:
    it = host()
    it.bundle([rows("a", *range(25_001))])
    assert [len(batch) for batch in it.rows] == [10_000, 10_000, 5_000]


def test_emitted_rows_leave_the_state_soon() -> None:
    it = host()
    it.bundle([rows("b", 10**9)])
    stored = []
    for number in range(1_000):
        it.bundle([rows("a", *range(number * 100, number * 100 + 100))])
        stored.append(sum(len(delta.data) for delta in it.kept))
    assert max(stored[500:]) <= 1.2 * max(stored[:500])
    assert len(it.kept) <= 101


#: For each source: what its event times grow by, and when each row comes after that time.
STREAMS = st.lists(
    st.lists(st.tuples(st.integers(0, 4), st.floats(0, WAIT / 2)), min_size=1, max_size=30),
    min_size=1,
    max_size=4,
)


@settings(deadline=None)
@given(STREAMS, st.integers(1, 5))
def test_sources_that_progress_come_out_sorted(
    streams: Sequence[Sequence[tuple[int, float]]], most: int
) -> None:
    arrivals = []
    for number, stream in enumerate(streams):
        # All sources start together and end with the same time, so none is ever silent.
        time, came = 0, 0.0
        arrivals.append((0.0, number, 0))
        for grows, delay in stream:
            time += grows
            came = max(came, time + delay)
            arrivals.append((came, number, time))
    it = host()
    for now, number, time in sorted(arrivals, key=lambda arrival: arrival[0]):
        it.bundle([rows(f"s{number}", time, now=1_000.0 + now)])
    it.finish()
    out = [int(time) for batch in it.rows for time in event_micros(batch)]
    assert sorted(out) == sorted(time for _, _, time in arrivals)
    assert out == sorted(out)


def test_restored_rows_get_the_columns_that_are_read_today() -> None:
    wider = TRANSACTIONS.append(pa.field("device_id", pa.string()))
    wider = wider.append(pa.field("km", pa.float64()))

    def of(columns: pa.Schema, kept: Sequence[Delta] = ()) -> Host:
        return Host(lambda clock: ReorderShard(WAIT, clock, columns), kept=list(kept))

    it = of(TRANSACTIONS)
    assert gone(it, rows("a", 1, 5), rows("b", 2)) == ["a1"]
    # `device_id` and `km` are read from here on.
    it = of(wider, it.kept)
    it.bundle([Event(1_001.0, with_columns(rows("b", 9).batch, wider))])
    assert [batch.column("device_id").to_pylist() for batch in it.rows] == [[None]]
    assert [batch.column("km").is_null(nan_is_null=True).to_pylist() for batch in it.rows] == [
        [True]
    ]
    # And no more.
    it = of(TRANSACTIONS, it.kept)
    it.finish()
    assert ids_of(it.rows) == ["a5", "b9"]
    assert it.rows[0].schema.names == TRANSACTIONS.names
    assert origin_of(it.rows[0]).source == "b"


def with_columns(batch: pa.RecordBatch | None, columns: pa.Schema) -> pa.RecordBatch:
    assert batch is not None
    values = {"device_id": pa.array(["d"]), "km": pa.array([1.5])}
    arrays = [*batch.columns, *values.values()]
    return pa.RecordBatch.from_arrays(arrays, schema=columns.with_metadata(batch.schema.metadata))
