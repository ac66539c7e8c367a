"""Stateful steps: the state of shards, on this machine and on a cluster."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.coders import BytesCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import (
    AccumulatingRuntimeState,
    BagStateSpec,
    ReadModifyWriteRuntimeState,
    ReadModifyWriteStateSpec,
    RuntimeTimer,
    TimerSpec,
    on_timer,
)
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from beam_fraud.features.hashing import IdHash
from beam_fraud.features.velocity.columns import part_of
from beam_fraud.monitoring.recorder import recorder
from beam_fraud.state.local_shards import LocalShards, MakeShard
from beam_fraud.state.shard import Effects, Shard
from beam_fraud.storage.checkpoint import FOREVER, LocalCheckpoint
from beam_fraud.storage.spill import split
from beam_fraud.transforms.join import Join, join
from beam_fraud.transforms.shards_in_memory import Opened, ShardsInMemory

#: Type: divide a batch among shards: their numbers, and the rows of each.
Divide = Callable[[pa.RecordBatch], Iterator[tuple[int, pa.RecordBatch]]]

#: Deltas of a shard between two merges, which rewrite the whole state.
_COMPACT_EVERY = 512
#: Seconds between two ticks of a shard that waits.
_TICK_SECONDS = 1.0
#: Column of the rows' positions in a batch, while it is divided.
_ROW = "@row"
#: Tag of the actions that shards request after their state is committed.
_AFTERWARDS = "afterwards"
_NEWEST = struct.Struct("<q")


@dataclass
class Stateful(beam.PTransform):
    """Process batches by the shards of a step (`state.shard`).

    On this machine, `checkpoint` commits their state together with the source's positions; the
    graph is one fused stage in one process there, and a bundle one transaction. Elsewhere the state
    is in Beam's runner and slow to access: so a shard holds many keys, its decoded form stays in
    memory, and a random token tells whether it still matches the runner's state.
    """

    #: Creates a shard.
    make: MakeShard
    #: Columns whose values determine the shard of a row.
    key: tuple[str, ...]
    #: Number of shards.
    shards: int
    #: Name of the state; must never change for a step.
    step: str
    #: Id hash of the stream, which determines the shard of a row.
    hashing: IdHash
    #: The checkpoint file of a stream on this machine, or None.
    checkpoint: Path | None
    #: The run, which separates shards in memory from another run's in the same process.
    run: str = ""
    #: Whether one process has all shards and no bundle is repeated, so that a shard in memory that
    #: differs from the runner's state is an error.
    repeats_nothing: bool = False
    #: Whether shards delay rows.
    waits: bool = False
    #: Whether any shard may process any batch, so that batches stay whole.
    whole: bool = False
    #: Once this file exists, waiting shards emit all their rows as often as they can.
    stop_file: Path | None = None
    #: Whether shards request actions after a bundle is committed.
    afterwards: bool = False
    #: Directory of the status files of workers, or None: a worker that neither reads nor observes
    #: counts what its steps count there, too.
    live: Path | None = None

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Add one step here; elsewhere, a split by shards and the step."""
        if self.checkpoint is not None:
            kind = _OnThisMachine if self.waits or self.shards == 1 else _Rejoining
            host = kind(self.make, self._divide, self.step, self.checkpoint)
            return batches | "Here" >> beam.ParDo(host).with_output_types(pa.RecordBatch)
        shards = ShardsInMemory(self.run, self.step, self.repeats_nothing)
        remembering = _InRunner(self.make, shards, self.live)
        if self.waits:
            remembering = _Waiting(self.make, shards, self.live, self.stop_file)
        divided = batches | "Shards" >> beam.FlatMap(self._divide).with_output_types(
            tuple[int, pa.RecordBatch]
        )
        state = beam.ParDo(remembering).with_output_types(pa.RecordBatch)
        if not self.afterwards:
            return divided | "State" >> state | "Together" >> Join()
        results = divided | "State" >> state.with_outputs(_AFTERWARDS, main="rows")
        results[_AFTERWARDS] | "Afterwards" >> beam.ParDo(_Afterwards())
        return results["rows"] | "Together" >> Join()

    @property
    def _divide(self) -> Divide:
        divide = _any_shard if self.whole else _of_shards
        return partial(divide, key=self.key, shards=self.shards, hashing=self.hashing)


def _of_shards(
    batch: pa.RecordBatch, key: Sequence[str], shards: int, hashing: IdHash
) -> Iterator[tuple[int, pa.RecordBatch]]:
    if shards == 1:
        yield 0, batch
    elif len(batch):
        columns = [name for name in key if name in batch.schema.names]
        yield from (
            split(batch, part_of(batch, columns, shards, hashing)) if columns else [(0, batch)]
        )


def _any_shard(
    batch: pa.RecordBatch, key: Sequence[str], shards: int, hashing: IdHash
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Assign all rows to one shard, chosen by the first row's key and so repeatable."""
    if len(batch):
        first = pa.array([repr([batch.column(name)[0].as_py() for name in key])])
        yield int(hashing.of(first)[0]) % shards if shards > 1 else 0, batch


class _OnThisMachine(beam.DoFn):
    """Write deltas to a `LocalCheckpoint`, which the source commits after each bundle."""

    def __init__(self, make: MakeShard, divide: Divide, step: str, checkpoint: Path) -> None:
        self._make, self._divide = make, divide
        self._step = step
        self._path = checkpoint

    def setup(self) -> None:
        self._shards = LocalShards(self._make, self._step, LocalCheckpoint.at(self._path))

    def process(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        for number, rows in self._divide(batch):
            yield from self._shards.take(number, rows)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        window = GlobalWindow()
        for rows in self._shards.tick(time.time()):
            yield WindowedValue(rows, window.max_timestamp(), [window])


class _Rejoining(_OnThisMachine):
    """Rejoin the output of the shards of a batch, in its order.

    Otherwise the pieces of all steps would multiply, and reach the next step in an arbitrary order.
    """

    def process(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        numbered = batch.append_column(_ROW, pa.array(np.arange(len(batch))))
        pieces = list(super().process(numbered))
        if pieces:
            for rejoined in join(pieces):
                yield rejoined.sort_by(_ROW).drop_columns([_ROW])


class _InRunner(beam.DoFn):
    """Keep deltas in a bag of the runner's state, each after its newest event time."""

    KEPT = BagStateSpec("kept", BytesCoder())
    TOKEN = ReadModifyWriteStateSpec("token", BytesCoder())

    def __init__(self, make: MakeShard, shards: ShardsInMemory, live: Path | None) -> None:
        self._make, self._shards, self._live = make, shards, live

    def setup(self) -> None:
        self._recorder = None if self._live is None else recorder(self._live)

    def finish_bundle(self) -> None:
        if self._recorder is not None:
            self._recorder.flush()

    def process(
        self,
        element: tuple[int, pa.RecordBatch],
        bag: AccumulatingRuntimeState = beam.DoFn.StateParam(KEPT),
        token: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(TOKEN),
    ) -> Iterator[pa.RecordBatch]:
        number, rows = element
        with self._open(number, bag, token) as opened:
            results = self._keep(opened, opened.shard.take(rows), bag, token)
        yield from results

    @contextmanager
    def _open(
        self, number: int, bag: AccumulatingRuntimeState, token: ReadModifyWriteRuntimeState
    ) -> Iterator[Opened]:
        """Open the shard of the current state, exclusively."""
        # Random, not a counter: after a failed bundle, a counter may match by accident.
        now = token.read() or b""
        opened = self._shards.take(number, now)
        if opened is None:
            # Without a token, there was never a state.
            deltas = list(bag.read()) if now else []
            opened = Opened(now, self._make(number), len(deltas))
            restored = opened.shard.restore([delta[_NEWEST.size :] for delta in deltas])
            self._keep(opened, restored, bag, token)
        yield opened
        self._shards.put(number, opened)

    def _keep(
        self,
        opened: Opened,
        effects: Effects,
        bag: AccumulatingRuntimeState,
        token: ReadModifyWriteRuntimeState,
    ) -> Sequence[pa.RecordBatch]:
        if effects.deltas or effects.replaces:
            if effects.replaces:
                bag.clear()
                opened.bag = 0
            for delta in effects.deltas:
                bag.add(_NEWEST.pack(delta.newest) + delta.data)
            opened.bag += len(effects.deltas)
            if opened.bag >= _COMPACT_EVERY:
                opened.bag = _compact(opened.shard, bag)
            opened.token = os.urandom(8)
            token.write(opened.token)
        return effects.rows


def _compact(shard: Shard, bag: AccumulatingRuntimeState) -> int:
    """Replace all ageing deltas by one; return the number of deltas."""
    needed = [delta for delta in bag.read() if _newest(delta) >= shard.needed_from]
    staying = [delta for delta in needed if _newest(delta) == FOREVER]
    ageing = [delta for delta in needed if _newest(delta) != FOREVER]
    bag.clear()
    if ageing:
        merged = shard.merge([delta[_NEWEST.size :] for delta in ageing])
        staying.insert(0, _NEWEST.pack(max(map(_newest, ageing))) + merged)
    for delta in staying:
        bag.add(delta)
    # Do not check unmergeable deltas again with every batch.
    return len(staying) if ageing else 0


def _newest(delta: bytes) -> int:
    newest: int = _NEWEST.unpack_from(delta)[0]
    return newest


class _Waiting(_InRunner):
    """The same for shards that delay rows: timers wake them and signal the end."""

    KEPT = _InRunner.KEPT
    TOKEN = _InRunner.TOKEN
    TICK = TimerSpec("tick", TimeDomain.REAL_TIME)
    END = TimerSpec("end", TimeDomain.WATERMARK)

    def __init__(
        self,
        make: MakeShard,
        shards: ShardsInMemory,
        live: Path | None,
        stop_file: Path | None,
    ) -> None:
        super().__init__(make, shards, live)
        self._stop_file = stop_file

    def process(
        self,
        element: tuple[int, pa.RecordBatch],
        bag: AccumulatingRuntimeState = beam.DoFn.StateParam(KEPT),
        token: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(TOKEN),
        tick: RuntimeTimer = beam.DoFn.TimerParam(TICK),
        end: RuntimeTimer = beam.DoFn.TimerParam(END),
    ) -> Iterator[pa.RecordBatch]:
        number, rows = element
        with self._open(number, bag, token) as opened:
            shard = opened.shard
            effects = shard.take(rows)
            results = self._keep(opened, effects, bag, token)
            if shard.waiting and not opened.ticking:
                opened.ticking = True
                tick.set(Timestamp.of(time.time() + _TICK_SECONDS))
                end.set(GlobalWindow().max_timestamp())
        yield from results
        yield from _afterwards(effects)

    @on_timer(TICK)
    def tick(
        self,
        number: int = beam.DoFn.KeyParam,
        bag: AccumulatingRuntimeState = beam.DoFn.StateParam(KEPT),
        token: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(TOKEN),
        tick: RuntimeTimer = beam.DoFn.TimerParam(TICK),
    ) -> Iterator[pa.RecordBatch]:
        """Pass the time to a shard, or the coming end of the stream.

        On a runner that keeps its sources up for checkpoints, the end of time never comes.
        """
        ending = self._stop_file is not None and self._stop_file.exists()
        with self._open(number, bag, token) as opened:
            shard = opened.shard
            effects = shard.finish() if ending else shard.tick(time.time())
            results = self._keep(opened, effects, bag, token)
            opened.ticking = shard.waiting
            if shard.waiting:
                tick.set(Timestamp.of(time.time() + _TICK_SECONDS))
        yield from results
        yield from _afterwards(effects)

    @on_timer(END)
    def end(
        self,
        number: int = beam.DoFn.KeyParam,
        bag: AccumulatingRuntimeState = beam.DoFn.StateParam(KEPT),
        token: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(TOKEN),
    ) -> Iterator[pa.RecordBatch]:
        """Make a shard emit all its rows."""
        with self._open(number, bag, token) as opened:
            effects = opened.shard.finish()
            results = self._keep(opened, effects, bag, token)
            # On Prism, rows may follow: those stamped with the end of time, as Beam stamps a
            # bundle's remaining output. They set both timers again.
            opened.ticking = False
            # A runner that ends with its sources takes no more checkpoints.
            for action in effects.afterwards:
                action()
        yield from results


def _afterwards(effects: Effects) -> Iterator[beam.pvalue.TaggedOutput]:
    return (beam.pvalue.TaggedOutput(_AFTERWARDS, action) for action in effects.afterwards)


class _Afterwards(beam.DoFn):
    """Run the requested actions after the bundle is committed.

    A separate step, because timers cannot request finalization.
    """

    def process(
        self, action: Callable[[], None], bundle: Any = beam.DoFn.BundleFinalizerParam
    ) -> None:
        bundle.register(action)
