"""A shard on this machine's disk stays what it is in memory, however often it is merged or lost.

The limits are small, so that a state passes many levels of merges, folds and rolls.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random, SystemRandom

import pyarrow as pa
import pytest

from beam_fraud.features.event_clock import EventClock
from beam_fraud.monitoring.drift import counts
from beam_fraud.schema.duration import HOUR
from beam_fraud.schema.event_time import event_micros
from beam_fraud.schema.velocity import Velocity
from beam_fraud.sources.raw import Origin, origin_of, with_origin
from beam_fraud.state import local_shards, reorder
from beam_fraud.state.chain import ChainShard
from beam_fraud.state.deduplicate import DeduplicateShard
from beam_fraud.state.drift import DriftShard
from beam_fraud.state.local_shards import LocalShards
from beam_fraud.state.shard import Effects, Shard
from beam_fraud.state.velocity import VelocityShard
from beam_fraud.state.window_sets import Filling, WindowSetsShard
from beam_fraud.storage import checkpoint, journal
from beam_fraud.storage.checkpoint import LocalCheckpoint
from beam_fraud.storage.journal import JournaledCheckpoint
from tests.shard_host import Clock, Event, Host, transactions
from tests.state.test_contract import HASH, KINDS, left_in
from tests.state.test_drift_parts import LAYOUT, summary_of

UTC = pa.timestamp("us", "UTC")
#: A row that is ahead of all others by so many hours, as of a source with a wrong clock.
AHEAD = 50_000
#: As far as a row may be behind the newest one before it. What a later one sees depends on what is
#: dropped already.
LATE = 60 * HOUR
STEP = "step"
WINDOWS = (
    Velocity(("account_id",), ("5h", "20h"), ("count", "mean", "std", "distinct_merchant")),
    Velocity(("account_id",), ("20h",), ("sum", "max"), by_currency=True),
    Velocity(("account_id",), ("30h",), ("count", "risk"), delay="2h"),
)
FIRST = (Velocity(("account_id",), ("20h",), ("count", "mean", "seconds_since_last")),)
LATER = (Velocity(("account_id",), ("5h", "40h"), ("count", "sum")),)


def payments(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of few accounts, a unit of time an hour; those of one source are labels of others."""
    ids = [int(name) for name in batch.column("transaction_id").to_pylist()]
    times = pa.array(event_micros(batch) * HOUR).cast(UTC)
    columns = {
        "transaction_id": batch.column("transaction_id"),
        "event_time": times,
        "account_id": [f"a{number % 3}" for number in ids],
        "merchant_id": [f"m{number % 4}" for number in ids],
    }
    origin = origin_of(batch)
    if origin.source == "t:2":
        labels = pa.record_batch(
            {
                **columns,
                # In turn fraud and genuine, so that their order counts.
                "label": pa.array(batch.column("@position").to_numpy() % 2, pa.int8()),
                "labelled_at": times,
                "labelled_by": [""] * len(batch),
            }
        )
        labelled = Origin("labels:0", "jsonl", content="labels")
        return labels.cast(with_origin(labels.schema, labelled))
    amounts = [number % 100 / 4 + 1 for number in ids]
    currencies = [("EUR", "JPY", None)[number % 3] for number in ids]
    rows = pa.record_batch(
        {**columns, "amount": amounts, "currency": pa.array(currencies, pa.string())}
    )
    return rows.replace_schema_metadata(with_origin(rows.schema, origin).metadata)


class _Payments(VelocityShard):
    """Has windows of payments."""

    def take(self, batch: pa.RecordBatch) -> Effects:
        return super().take(payments(batch))


class _PaymentSets(WindowSetsShard):
    """The same with windows of another model, which come and go."""

    def take(self, batch: pa.RecordBatch) -> Effects:
        return super().take(payments(batch))


class _Counted(DriftShard):
    """Counts rows by day."""

    def take(self, batch: pa.RecordBatch) -> Effects:
        times = event_micros(batch).tolist()
        rows = [(time // 50, float(time % 4)) for time in times]
        key = counts.key_of("model@1", LAYOUT)
        return self.keep(counts.ModelCounts(key, "model@1", summary_of(rows)))


def _sets(clock: Clock, shard: int = 0) -> WindowSetsShard:
    further = ((FIRST,), (FIRST, LATER))
    made = [tuple(spec for one in sets for spec in one) for sets in further]
    wanted = [(made[0],), (made[0], LATER)]
    windows = partial(VelocityShard, shard, hashing=HASH, lateness=LATE)
    return _PaymentSets(
        shard,
        FIRST,
        lambda first: windows(definitions=first),
        lambda definitions: windows(definitions=definitions),
        Filling(wanted=lambda: wanted[int(clock.now) // 60 % 2]),
    )


@dataclass(frozen=True)
class Stored:
    """A factory of a kind of shard, and what is compared of its deltas beside the rows."""

    make: Callable[[Path, Clock], Shard]
    view: Callable[[Sequence[bytes]], object] = lambda _: None


STORED = {name: Stored(kind.make) for name, kind in KINDS.items()} | {
    "windows": Stored(lambda _, __: _Payments(0, definitions=WINDOWS, hashing=HASH, lateness=LATE)),
    "sets of windows": Stored(lambda _, clock: _sets(clock)),
    "chain": Stored(
        lambda _, clock: ChainShard(
            [DeduplicateShard(10**6, lambda rows: None, HASH), _sets(clock)]
        )
    ),
    "drift": Stored(lambda _, __: _Counted(None), lambda deltas: counts.encoded(deltas)),
}


@pytest.fixture(autouse=True, scope="module")
def _limits_are_small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "_MERGED", 2)
        patch.setattr(checkpoint, "_LARGE", 600)
        patch.setattr(local_shards, "_TIDY_EVERY", 3)
        patch.setattr(journal, "_MERGED_AT_ONCE", 3)
        patch.setattr(reorder, "_MOST_DELTAS", 4)
        yield


@pytest.fixture(params=STORED.values(), ids=STORED, scope="module")
def kind(request: pytest.FixtureRequest) -> Iterator[Stored]:
    """A kind; the clock of windows moves with few rows."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param is not STORED["deduplicate"]:
            patch.setattr(EventClock.__init__, "__defaults__", (8, 8))
        yield request.param


class OfStream:
    """The host of a shard in a stream: a checkpoint that merges with each few deltas."""

    acts = ("lose", "reopen", *["go on"] * 4)

    def __init__(self, make: Callable[[Clock], Shard], path: Path) -> None:
        self._make, self._path = make, path
        self.clock = Clock()
        self._open()

    def _open(self) -> None:
        self.checkpoint = LocalCheckpoint(self._path)
        self.shards = LocalShards(lambda _: self._make(self.clock), STEP, self.checkpoint)
        self.shards.shard(0)

    def reopen(self) -> None:
        """Be as after a kill."""
        self.checkpoint.close()
        self._open()

    lose = reopen

    def take(self, bundle: Sequence[Event]) -> list[pa.RecordBatch]:
        """Return what the shard emits."""
        rows = list[pa.RecordBatch]()
        for event in bundle:
            self.clock.now = event.now
            if event.batch is None:
                rows += self.shards.tick(event.now)
            else:
                rows += self.shards.take(0, event.batch)
        return rows

    def commit(self) -> None:
        """Commit with a position, as a bundle ends."""
        self.checkpoint.commit({"t:0": str(self.clock.now)})

    def act(self, name: str) -> None:
        """Do something between two bundles."""
        if name == "reopen":
            self.reopen()

    def deltas(self) -> list[bytes]:
        return self.checkpoint.deltas(STEP, 0)


class OfServer(OfStream):
    """That in a server: a journal that is folded now and then."""

    acts = ("lose", "discard", "reopen", "fold", "begin fold", "end fold", *["go on"] * 3)
    checkpoint: JournaledCheckpoint  # type: ignore[assignment]

    def _open(self) -> None:
        self.checkpoint = JournaledCheckpoint(self._path)
        self.shards = LocalShards(lambda _: self._make(self.clock), STEP, self.checkpoint)
        self.shards.shard(0)
        self.checkpoint.open[STEP, 0] = lambda: self.shards.shard(0)

    def act(self, name: str) -> None:
        if name == "fold":
            self.checkpoint.commit({}, fold=True)
        elif name == "begin fold":
            self.checkpoint.begin_fold()
        elif name == "end fold":
            self.checkpoint.end_fold()
        else:
            super().act(name)

    def discard(self) -> None:
        """Be as after a group that failed."""
        self.checkpoint.discard()
        self.shards.forget()
        self.shards.shard(0)


def events_of(draw: Random, bundles: int) -> Iterator[list[Event]]:
    """Yield bundles of small batches and large ones, late rows, repeats, and some far ahead."""
    now, sent = 1_000.0, 0
    for _ in range(bundles):
        bundle = list[Event]()
        for _ in range(draw.randint(1, 3)):
            now += draw.choice([0.0, 1.0, 1.0, 3.0, 9.0])
            source = draw.choice(["t:0", "t:0", "t:1", "t:2", None])
            if source is None:
                bundle.append(Event(now))
                continue
            rows = draw.choice([1, 1, 1, 2, 3, 25])
            ids = [str(max(sent + n - draw.choice([0, 0, 0, 7, 40]), 0)) for n in range(rows)]
            times = [int(now) + draw.randint(-8, 8) for _ in range(rows)]
            times = [time + AHEAD if draw.random() < 0.04 else time for time in times]
            bundle.append(Event(now, transactions(ids, times, source=source, start=sent)))
            sent += rows
        yield bundle


def shown(rows: Sequence[pa.RecordBatch]) -> list[tuple[object, ...]]:
    """Return all of some batches; NaN equals NaN."""
    return [(batch.schema.metadata, repr(batch.to_pylist())) for batch in rows]


@pytest.fixture
def seed() -> int:
    """A random seed; a failing test prints it, and CHAOS_SEED repeats it."""
    chosen = int(os.environ.get("CHAOS_SEED") or SystemRandom().randrange(1 << 32))
    print(f"CHAOS_SEED={chosen}")
    return chosen


@pytest.mark.parametrize("bundles", [50, pytest.param(2_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("stored_by", [OfStream, OfServer], ids=["stream", "server"])
def test_a_state_that_is_merged_and_lost_is_that_of_a_shard_in_memory(
    tmp_path_factory: pytest.TempPathFactory,
    kind: Stored,
    stored_by: type[OfStream],
    bundles: int,
    seed: int,
) -> None:
    draw = Random(seed)
    here, there = (tmp_path_factory.mktemp(name) for name in ("memory", "disk"))
    memory = Host(lambda clock: kind.make(here, clock))
    disk = stored_by(lambda clock: kind.make(there, clock), there / "state.db")
    for bundle in events_of(draw, bundles):
        before = len(memory.rows)
        memory.bundle(bundle)
        act = draw.choice(stored_by.acts)
        if act in ("lose", "discard"):
            disk.take(bundle[: draw.randint(0, len(bundle))])
            getattr(disk, act)()
        assert shown(disk.take(bundle)) == shown(memory.rows[before:])
        disk.commit()
        disk.act(act)
    disk.reopen()
    assert kind.view(disk.deltas()) == kind.view([delta.data for delta in memory.kept])
    before = len(memory.rows)
    memory.finish()
    assert shown(disk.shards.finish(0)) == shown(memory.rows[before:])
    disk.commit()
    assert left_in(there) == left_in(here)
    disk.checkpoint.close()
