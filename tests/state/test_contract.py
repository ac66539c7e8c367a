"""The contract of every shard: a restored shard continues as if it had never stopped."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.errors import FraudError
from beam_fraud.features.hashing import IdHash
from beam_fraud.schema.event_time import event_micros
from beam_fraud.sources.raw import origin_of
from beam_fraud.state import reorder
from beam_fraud.state.archive import ArchiveShard
from beam_fraud.state.deduplicate import DeduplicateShard
from beam_fraud.state.reorder import ReorderShard
from beam_fraud.state.rule_share import RuleShareShard
from beam_fraud.state.shard import Effects, Shard
from tests.ruled import RULES, THRESHOLDS, decided
from tests.shard_host import TRANSACTIONS, Clock, Event, Host, transactions

HORIZON = 20
WAIT = 4.0


@dataclass(frozen=True)
class Kind:
    """A factory of one kind of shard."""

    make: Callable[[Path, Clock], Shard]


class _OfDecided(RuleShareShard):
    """Turns transactions into decided rows, for many of which a rule fired."""

    def take(self, batch: pa.RecordBatch) -> Effects:
        ids = batch.column("transaction_id").to_pylist()
        fires = [[False, int(name) % 3 > 0, int(name) % 5 == 0] for name in ids]
        source = origin_of(batch).source
        return super().take(decided(event_micros(batch), fires, ids=ids, source=source))


HASH = IdHash.random()
KINDS = {
    "deduplicate": Kind(lambda _, __: DeduplicateShard(HORIZON, lambda rows: None, HASH)),
    "archive": Kind(
        lambda directory, clock: ArchiveShard(
            directory, TRANSACTIONS, 3, rows=8, seconds=5.0, clock=clock
        )
    ),
    "reorder": Kind(lambda _, clock: ReorderShard(WAIT, clock)),
    "rules": Kind(lambda _, __: _OfDecided(2, RULES, THRESHOLDS, 0.3, HORIZON, 8, 4)),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)

#: Seconds since the last, source (none: a tick), id and event time of each row.
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.0, 3.0, 9.0]),
        st.sampled_from(["t:0", "t:1", "t:2", None]),
        st.lists(st.tuples(st.integers(0, 30), st.integers(-8, 8)), max_size=6),
    ),
    max_size=25,
)


@pytest.fixture(autouse=True, scope="module")
def _what_waits_is_kept_anew_often() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reorder, "_MOST_DELTAS", 4)
        yield


def events_of(steps: list[tuple[float, str | None, list[tuple[int, int]]]]) -> list[Event]:
    """Return batches whose event times roughly follow the clock."""
    events, now, sent = [], 1_000.0, 0
    for seconds, source, rows in steps:
        now += seconds
        if source is None:
            events.append(Event(now))
            continue
        ids = [str(number) for number, _ in rows]
        times = [int(now * 4) + ahead for _, ahead in rows]
        events.append(Event(now, transactions(ids, times, source=source, start=sent)))
        sent += len(rows)
    return events


def left_in(directory: Path) -> dict[str, list[dict[str, object]]]:
    """Return every visible file with its rows."""
    return {path.name: pq.read_table(path).to_pylist() for path in directory.glob("*.parquet")}


@every_kind
@settings(max_examples=80, deadline=None)
@given(steps=STEPS, data=st.data())
def test_a_shard_that_is_lost_at_any_time_changes_nothing(
    kind: Kind, tmp_path_factory: pytest.TempPathFactory, steps: list, data: st.DataObject
) -> None:
    events = events_of(steps)
    here, there = (tmp_path_factory.mktemp(name) for name in ("undisturbed", "disturbed"))
    undisturbed = Host(lambda clock: kind.make(here, clock))
    undisturbed.bundle(events)
    undisturbed.finish()

    disturbed = Host(lambda clock: kind.make(there, clock))
    while events:
        size = data.draw(st.integers(1, 4), "bundle")
        bundle, events = events[:size], events[size:]
        for _ in range(data.draw(st.integers(0, 1), "failures")):
            disturbed.fail(bundle[: data.draw(st.integers(0, size), "before it fails")])
        disturbed.bundle(bundle)
        after = data.draw(st.sets(st.sampled_from(["drop", "merge", "restore"])), "after")
        if "merge" in after:
            disturbed.merge(data.draw(st.integers(1, 8), "merged"))
        if "drop" in after:
            disturbed.drop()
        if "restore" in after:
            disturbed.restore()
    disturbed.finish()

    assert [b.to_pylist() for b in disturbed.rows] == [b.to_pylist() for b in undisturbed.rows]
    assert [b.schema.metadata for b in disturbed.rows] == [
        b.schema.metadata for b in undisturbed.rows
    ]
    assert left_in(there) == left_in(here)


@every_kind
@pytest.mark.parametrize(
    "data", [b"x", b"12345678" * 2, b"R" + bytes(10), b"R" + bytes(30), b"\x93\x80\xc0\x91\x92"]
)
def test_unreadable_state_is_refused_in_one_line(kind: Kind, tmp_path: Path, data: bytes) -> None:
    with pytest.raises(FraudError, match=r"state.*start again") as refused:
        kind.make(tmp_path, Clock()).restore([data])
    assert "\n" not in str(refused.value)


@every_kind
def test_an_empty_batch_makes_no_delta(kind: Kind, tmp_path: Path) -> None:
    host = Host(lambda clock: kind.make(tmp_path, clock))
    host.bundle([Event(1_000.0, transactions([], [])), Event(2_000.0)])
    assert (host.rows, host.kept, host.shard.waiting) == ([], [], False)
    host.finish()
    assert left_in(tmp_path) == {}
