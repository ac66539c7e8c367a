"""Steps that remember: where a shard's state is kept, on this machine and on a cluster."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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

from beam_fraud.checkpoint.local_checkpoint import FOREVER, LocalCheckpoint
from beam_fraud.features.velocity.columns import part_of
from beam_fraud.rules.muted import muted_in, with_muted
from beam_fraud.shards.shard import Effects, Shard
from beam_fraud.shuffle.split import split

#: Makes the shard of a number: a partial of a class, which travels to the workers.
MakeShard = Callable[[int], Shard]

#: Deltas of a shard between two looks at whether some can be merged or dropped.
_TIDY_EVERY = 32
#: The same where all of what is kept has to be written anew for it.
_COMPACT_EVERY = 512
#: Seconds between two ticks of a shard that waits for something.
_TICK_SECONDS = 1.0
#: Column of the rows' places in a batch, while it is in pieces.
_ROW = "@row"
_NEWEST = struct.Struct("<q")


@dataclass
class Stateful(beam.PTransform):
    """Batches through the shards of a step (`shards.shard`).

    On this machine, `checkpoint` keeps what they know together with the source's positions; the
    graph is one fused stage in one process there, and a bundle one transaction. Elsewhere it is
    in the state of Beam's runner, which is slow to touch: so a shard is many keys, what is decoded
    of it stays in memory, and a random token says whether that is still what the runner holds.
    """

    #: Makes a shard.
    make: MakeShard
    #: Columns whose values together tell the shard of a row.
    key: tuple[str, ...]
    #: How many shards there are.
    shards: int
    #: Name under which the state is kept: never another for the same step.
    step: str
    #: The file of a stream on this machine, or None.
    checkpoint: Path | None
    #: Whether shards hold rows back for some time.
    waits: bool = False
    #: Shards that wait give all they have, as often as they can, once this file is there.
    stop_file: Path | None = None

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """One step here; a split by shards and the step itself elsewhere."""
        if self.checkpoint is not None:
            kind = _OnThisMachine if self.waits or self.shards == 1 else _Rejoining
            host = kind(self.make, self.key, self.shards, self.step, self.checkpoint)
            return batches | "Here" >> beam.ParDo(host).with_output_types(pa.RecordBatch)
        remembering = _Waiting(self.make, self.stop_file) if self.waits else _InRunner(self.make)
        return (
            batches
            | "Shards"
            >> beam.FlatMap(_of_shards, self.key, self.shards).with_output_types(
                tuple[int, pa.RecordBatch]
            )
            | "State" >> beam.ParDo(remembering).with_output_types(pa.RecordBatch)
        )


def _of_shards(
    batch: pa.RecordBatch, key: Sequence[str], shards: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    if shards == 1:
        yield 0, batch
    elif len(batch):
        columns = [name for name in key if name in batch.schema.names]
        yield from split(batch, part_of(batch, columns, shards)) if columns else [(0, batch)]


class _OnThisMachine(beam.DoFn):
    """Keeps deltas in a `LocalCheckpoint`, which the source commits after each bundle."""

    def __init__(
        self, make: MakeShard, key: tuple[str, ...], shards: int, step: str, checkpoint: Path
    ) -> None:
        self._make = make
        self._key, self._shards, self._step = key, shards, step
        self._path = checkpoint

    def setup(self) -> None:
        self._checkpoint = LocalCheckpoint.at(self._path)
        self._open: dict[int, Shard] = {}
        #: Of which change of what is kept a shard in memory knows.
        self._versions: dict[int, int] = {}
        self._untidy: dict[int, int] = {}

    def process(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        for number, rows in _of_shards(batch, self._key, self._shards):
            yield from self._keep(number, self._shard(number).take(rows))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        now, window = time.time(), GlobalWindow()
        for number in [number for number, shard in self._open.items() if shard.waiting]:
            for rows in self._keep(number, self._shard(number).tick(now)):
                yield WindowedValue(rows, window.max_timestamp(), [window])

    def _shard(self, number: int) -> Shard:
        shard = self._open.get(number)
        version = self._checkpoint.version(self._step, number)
        if shard is None or self._versions[number] != version:
            self._open[number] = shard = self._make(number)
            kept = shard.restore(self._checkpoint.kept(self._step, number))
            self._versions[number] = version
            list(self._keep(number, kept))
        return shard

    def _keep(self, number: int, effects: Effects) -> Sequence[pa.RecordBatch]:
        if effects.deltas or effects.replaces:
            deltas = [(delta.data, delta.newest) for delta in effects.deltas]
            self._checkpoint.keep(self._step, number, deltas, replaces=effects.replaces)
            self._versions[number] = self._checkpoint.version(self._step, number)
            self._untidy[number] = self._untidy.get(number, 0) + len(deltas)
            if self._untidy[number] >= _TIDY_EVERY:
                self._untidy[number] = 0
                self._tidy(number)
        return effects.rows

    def _tidy(self, number: int) -> None:
        shard = self._open[number]
        self._checkpoint.drop(self._step, number, shard.needed_from)
        for level, kept in self._checkpoint.to_merge(self._step, number):
            self._checkpoint.merge(self._step, number, level, shard.merge(kept))


class _Rejoining(_OnThisMachine):
    """Puts what the shards make of a batch together again, in its order.

    Otherwise the pieces of all steps would multiply, and arrive at the next step in an order that
    nothing has happened in.
    """

    def process(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        numbered = batch.append_column(_ROW, pa.array(np.arange(len(batch))))
        pieces = list(super().process(numbered))
        if pieces:
            rows = pa.Table.from_batches(pieces).sort_by(_ROW).drop_columns([_ROW])
            whole = rows.replace_schema_metadata(batch.schema.metadata).combine_chunks()
            muted = [rule for piece in pieces for rule in muted_in(piece)]
            yield from (with_muted(rejoined, muted) for rejoined in whole.to_batches())


class _InRunner(beam.DoFn):
    """Keeps deltas in a bag of the runner's state, each after the newest event time in it."""

    KEPT = BagStateSpec("kept", BytesCoder())
    TOKEN = ReadModifyWriteStateSpec("token", BytesCoder())

    def __init__(self, make: MakeShard) -> None:
        self._make = make

    def setup(self) -> None:
        #: Shard to its token, what is in memory, and how many deltas the bag has.
        self._open: dict[int, tuple[bytes, Shard, int]] = {}

    def process(
        self,
        element: tuple[int, pa.RecordBatch],
        kept: AccumulatingRuntimeState = beam.DoFn.StateParam(KEPT),
        token: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(TOKEN),
    ) -> Iterator[pa.RecordBatch]:
        number, rows = element
        shard = self._shard(number, kept, token)
        yield from self._keep(number, shard, shard.take(rows), kept, token)

    def _shard(
        self, number: int, kept: AccumulatingRuntimeState, token: ReadModifyWriteRuntimeState
    ) -> Shard:
        before, shard, _ = self._open.get(number, (b"", None, 0))
        # Random, not a counter: after a bundle that failed a counter may agree by accident.
        now = token.read() or b""
        if shard is None or now != before:
            shard = self._make(number)
            deltas = list(kept.read())
            self._open[number] = (now, shard, len(deltas))
            restored = shard.restore([delta[_NEWEST.size :] for delta in deltas])
            list(self._keep(number, shard, restored, kept, token))
        return shard

    def _keep(
        self,
        number: int,
        shard: Shard,
        effects: Effects,
        kept: AccumulatingRuntimeState,
        token: ReadModifyWriteRuntimeState,
    ) -> Sequence[pa.RecordBatch]:
        if effects.deltas or effects.replaces:
            mark = os.urandom(8)
            _, _, bag = self._open[number]
            if effects.replaces:
                kept.clear()
                bag = 0
            for delta in effects.deltas:
                kept.add(_NEWEST.pack(delta.newest) + delta.data)
            bag += len(effects.deltas)
            if bag >= _COMPACT_EVERY:
                bag = _compact(shard, kept)
            token.write(mark)
            self._open[number] = (mark, shard, bag)
        return effects.rows


def _compact(shard: Shard, kept: AccumulatingRuntimeState) -> int:
    """Put one delta in the place of all that age; how many there are then."""
    needed = [delta for delta in kept.read() if _newest(delta) >= shard.needed_from]
    staying = [delta for delta in needed if _newest(delta) == FOREVER]
    ageing = [delta for delta in needed if _newest(delta) != FOREVER]
    kept.clear()
    if ageing:
        merged = shard.merge([delta[_NEWEST.size :] for delta in ageing])
        staying.insert(0, _NEWEST.pack(max(map(_newest, ageing))) + merged)
    for delta in staying:
        kept.add(delta)
    # What cannot be merged shall not be looked at again with every batch.
    return len(staying) if ageing else 0


def _newest(delta: bytes) -> int:
    newest: int = _NEWEST.unpack_from(delta)[0]
    return newest


class _Waiting(_InRunner):
    """The same for shards that hold rows back: timers wake them, and tell them the end."""

    KEPT = _InRunner.KEPT
    TOKEN = _InRunner.TOKEN
    TICK = TimerSpec("tick", TimeDomain.REAL_TIME)
    END = TimerSpec("end", TimeDomain.WATERMARK)

    def __init__(self, make: MakeShard, stop_file: Path | None = None) -> None:
        super().__init__(make)
        self._stop_file = stop_file

    def process(
        self,
        element: tuple[int, pa.RecordBatch],
        kept: AccumulatingRuntimeState = beam.DoFn.StateParam(KEPT),
        token: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(TOKEN),
        tick: RuntimeTimer = beam.DoFn.TimerParam(TICK),
        end: RuntimeTimer = beam.DoFn.TimerParam(END),
    ) -> Iterator[pa.RecordBatch]:
        number, rows = element
        shard = self._shard(number, kept, token)
        was_waiting = shard.waiting
        yield from self._keep(number, shard, shard.take(rows), kept, token)
        if shard.waiting and not was_waiting:
            tick.set(Timestamp.of(time.time() + _TICK_SECONDS))
        end.set(GlobalWindow().max_timestamp())

    @on_timer(TICK)
    def tick(
        self,
        number: int = beam.DoFn.KeyParam,
        kept: AccumulatingRuntimeState = beam.DoFn.StateParam(KEPT),
        token: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(TOKEN),
        tick: RuntimeTimer = beam.DoFn.TimerParam(TICK),
    ) -> Iterator[pa.RecordBatch]:
        """Let a shard see what time it is, or that the stream is coming to its end.

        Where the runner keeps its sources up for checkpoints, the end of time never comes.
        """
        shard = self._shard(number, kept, token)
        ending = self._stop_file is not None and self._stop_file.exists()
        effects = shard.finish() if ending else shard.tick(time.time())
        yield from self._keep(number, shard, effects, kept, token)
        if shard.waiting:
            tick.set(Timestamp.of(time.time() + _TICK_SECONDS))

    @on_timer(END)
    def end(
        self,
        number: int = beam.DoFn.KeyParam,
        kept: AccumulatingRuntimeState = beam.DoFn.StateParam(KEPT),
        token: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(TOKEN),
    ) -> Iterator[pa.RecordBatch]:
        """Let a shard give all it has."""
        shard = self._shard(number, kept, token)
        yield from self._keep(number, shard, shard.finish(), kept, token)
