"""The queue between the event loop and the engine, which joins waiting calls to one commit."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue

from beam_fraud.errors import FraudError
from beam_fraud.serve.answers import Answered
from beam_fraud.serve.engine import Engine
from beam_fraud.serve.group_commit import LARGE_CALL, Block, Entry, GroupCommit, Joining
from beam_fraud.serve.lull import Lull
from beam_fraud.serve.metrics import Metrics, count
from beam_fraud.serve.predictions import Call, Overloaded, Readiness, Unready
from beam_fraud.serve.turn import Turn
from beam_fraud.serve.upkeep import Upkeep
from beam_fraud.wording import place_of

_LOG = logging.getLogger(__name__)
#: Rows of a group, unless one call has more.
_GROUP_ROWS = 1_000
#: Rows of a group of large calls alone: a group costs as much as 500 rows, and a flush of the disk.
#: Single rows do not join them: they would wait longer.
_GROUP_ROWS_OF_LARGE = 4_000
#: Seconds between two looks at what decides, without calls.
_TICK = 0.2
#: Seconds between two looks whether the event loop has answered, at the end.
_GLANCE = 0.001
#: Seconds after which an engine that another one has replaced is freed.
_RELEASE_SECONDS = 1.0
_ENDED = "the engine has ended by an error, which the log names; start the server again"


@dataclass(frozen=True)
class Pace:
    """Limits of time and load."""

    #: Seconds from the arrival of a call to its fallback; None for no limit.
    deadline: float | None = None
    #: Rows that may wait for the engine; a call beyond is shed.
    waiting_rows: int = 20_000
    #: Seconds to finish accepted calls and deliver what waits, at the end.
    drain: float = 10.0
    #: Whether the event loop itself answers small calls that are recorded, if the engine is free:
    #: no thread has to wake up, but the loop, and so a deadline, waits for the disk.
    in_loop: bool = False


@dataclass(frozen=True)
class Change:
    """Another model or other rules, which answer from the next group on."""

    #: An engine over the same state, which has done everything that its first group needs.
    engine: Engine
    #: What `/model` shows.
    about: Mapping[str, object]
    #: Called before the first group with the time, microseconds of the epoch; it must not take
    #: long.
    taken: Callable[[int], None] = lambda since: None


class PredictionQueue:
    """Answer calls by an engine in a thread of its own (`predictions.Predictions`).

    Calls that arrive while a group is computed and committed are the next group: one micro-batch,
    one commit. The event loop does not wait for the engine: a call whose deadline passes gets the
    fallback, and its transaction is recorded as answered that way.

    With `Pace.in_loop` the event loop takes the engine's turn for small calls that are recorded:
    for those that arrived together, or while the turn was another's. All else is left to the
    thread, and what comes while that waits.

    Args:
      pace: limits of time and load.
      metrics: receives times and outcomes.
      about: what `/model` shows.
    """

    def __init__(
        self,
        pace: Pace,
        metrics: Metrics,
        about: Mapping[str, object],
    ) -> None:
        self._pace = pace
        self._metrics = metrics
        self._about = dict(about)
        self._refused: Callable[[], str | None] = lambda: None
        self._renewed: Callable[[], Change | None] = lambda: None
        self._queue: SimpleQueue[Entry | Block | None] = SimpleQueue()
        #: Taken from the queue, but not part of the group it was taken for.
        self._held: list[Entry | Block | None] = []
        self._engine: Engine | None = None
        self._groups = GroupCommit(metrics)
        self._turn, self._lull = Turn(), Lull()
        self._upkeep: Upkeep | None = None
        #: The event loop, and the calls of its next turn.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived = list[Entry]()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        #: Reads large calls beside the group before them.
        self._readers = ThreadPoolExecutor(1, "reader")
        self._stopping = self._drained = False
        #: Whether the thread has ended by an error.
        self._broken = False
        metrics.queue_depth = lambda: self._groups.waiting

    def start(
        self,
        engine: Engine,
        refused: Callable[[], str | None] = lambda: None,
        renewed: Callable[[], Change | None] = lambda: None,
    ) -> None:
        """Start to answer.

        Args:
          engine: the engine.
          refused: returns why requests are refused at present, in words; or None.
          renewed: asked between two groups: returns what answers from here on, or None for as
            before.
        """
        self._refused, self._renewed = refused, renewed
        self._engine, self._groups.scores = engine, engine.state.settings.scores
        self._upkeep = Upkeep(engine.state, self._turn, self._lull, self._groups.store, self._end)
        engine.state.start()
        self._thread.start()
        self._upkeep.start()

    async def predict(self, call: Call) -> Answered:
        """Answer a call.

        Raises:
          Overloaded: too many rows wait.
          Unready: the state is not restored, or the server stops.
        """
        engine = self._engine
        if engine is None or self._stopping:
            raise Unready("the server stops" if self._stopping else "the state is being restored")
        if self._broken:
            raise Unready(_ENDED)
        if (why := self._refused()) is not None:
            raise Unready(why)
        if self._groups.waiting > self._pace.waiting_rows:
            count(self._metrics.shed, "queue")
            raise Overloaded()
        loop = asyncio.get_running_loop()
        entry = Entry(call, loop.create_future())
        self._groups.waiting += entry.rows
        if self._pace.in_loop and call.table is None and call.record and entry.rows < LARGE_CALL:
            if self._loop is not loop:
                self._loop = loop
                self._turn.given_back = partial(self._given_back, loop)
            self._arrived.append(entry)
            if call.alone:
                self._answer_arrived()
            elif len(self._arrived) == 1:
                loop.call_soon(self._answer_arrived)
        else:
            if call.record and entry.rows >= LARGE_CALL:
                read = partial(engine.read, call.records)
                if call.table is not None:
                    read = partial(engine.read_table, call.table)
                entry.read = self._readers.submit(read)
            self._queue.put(entry)
            if self._broken:
                raise Unready(_ENDED)
        if self._pace.deadline is None or call.table is not None:
            return await entry.future
        timer = loop.call_later(self._pace.deadline, self._groups.expire, engine, entry)
        try:
            return await entry.future
        finally:
            timer.cancel()

    def follow(self, block: Block) -> None:
        """Take rows of a topic, in any thread."""
        self._queue.put(block)

    def readiness(self) -> Readiness:
        """Return whether calls are answered."""
        reasons = [] if self._engine is not None else ["the state is being restored"]
        if (why := self._refused()) is not None:
            reasons.append(why)
        if self._groups.failure is not None:
            reasons.append(f"the state cannot be written ({self._groups.failure})")
        if self._upkeep is not None and self._upkeep.failure is not None:
            reasons.append(f"the archive cannot be written ({self._upkeep.failure})")
        if self._broken:
            reasons.append(_ENDED)
        model = str(self._about.get("model_id", ""))
        return Readiness(not reasons, reasons, alive=not self._broken, model_id=model)

    def about(self) -> dict[str, object]:
        """Return what `/model` shows."""
        engine = self._engine
        if engine is None:
            return dict(self._about)
        awaited, further = engine.state.windows.awaited, dict[str, object]()
        if engine.state.shadow is not None:
            further = self._metrics.shadow_totals().about()
        if awaited is not None:
            further = {**further, "awaited": awaited}
        return {**self._about, **further, "waiting": engine.state.waiting}

    def drain(self) -> None:
        """Answer accepted calls, and make everything durable."""
        self._stopping = True
        if self._engine is None:
            return
        self._queue.put(None)
        self._thread.join()
        self._readers.shutdown()
        if self._upkeep is not None:
            self._upkeep.close()
        # Nobody else takes the turn from here on.
        until = time.monotonic() + self._pace.drain
        while self._arrived and not self._broken and time.monotonic() < until:
            time.sleep(_GLANCE)
        with self._turn.claimed():
            self._drained = True
            waiting = self._engine.state.close(self._pace.drain)
        for name, rows in waiting.items():
            if rows:
                _LOG.warning(
                    "%s: %s rows wait in the state; the next server delivers them", name, rows
                )

    def close(self) -> None:
        """Do nothing more: `drain` closes the state."""

    def _answer_arrived(self) -> None:
        """Answer the calls that arrived, in the event loop, or once it can have the turn."""
        entries = self._arrived
        if not entries:
            return
        if self._broken or self._drained:
            self._arrived = []
            self._refuse(entries)
            return
        # Calls in the queue are older.
        if self._held or not self._queue.empty():
            self._arrived = []
            for entry in entries:
                self._queue.put(entry)
            return
        # A thread would have to wake up twice for what the loop does a moment later.
        if not self._turn.taken():
            return
        group: list[Entry] = []
        rows = 0
        for entry in entries:
            rows += entry.rows
            if group and rows > _GROUP_ROWS:
                break
            group.append(entry)
        self._arrived = entries[len(group) :]
        self._groups.in_loop = True
        try:
            self._answer_group(self._in_force(), group)
        except BaseException as error:
            self._end(error)
            self._refuse(group)
        finally:
            self._groups.in_loop = False
            self._turn.release()
        if self._arrived:
            group[0].future.get_loop().call_soon(self._answer_arrived)

    def _refuse(self, entries: list[Entry]) -> None:
        """Say that the engine has ended, in the event loop."""
        self._groups.set(entries, [(entry, Unready(_ENDED), {}) for entry in entries])

    def _given_back(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the event loop answer what waits for the turn; in another thread."""
        with suppress(RuntimeError):
            # The loop may be closed, and so are the connections.
            loop.call_soon_threadsafe(self._answer_arrived)

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._end(error)
            while not self._queue.empty():
                self._held.append(self._queue.get_nowait())
            for entry in self._held:
                if isinstance(entry, Entry):
                    self._groups.hand_over([entry], [(entry, Unready(_ENDED), {})])

    def _end(self, error: BaseException) -> None:
        self._broken = True
        why = str(error) if isinstance(error, FraudError) else place_of(error)
        _LOG.error("the engine has ended, start the server again: %s", why)

    def _work(self) -> None:
        while True:
            try:
                first = self._held.pop() if self._held else self._queue.get(timeout=_TICK)
            except Empty:
                with self._turn.claimed():
                    self._in_force()
                continue
            if first is None:
                return
            with self._turn.claimed():
                engine = self._in_force()
                if isinstance(first, Block):
                    self._groups.follow(engine, first)
                    continue
                self._answer_group(engine, self._joined(engine, first))

    def _answer_group(self, engine: Engine, entries: list[Entry]) -> None:
        if self._upkeep is not None:
            self._upkeep.groups += 1
        self._groups.answer(engine, entries)
        if self._groups.in_loop:
            # After the answers have been written.
            loop = entries[0].future.get_loop()
            loop.call_soon(loop.call_soon, self._settle, engine)
            return
        _settle(engine)
        if not self._held and self._queue.empty():
            self._lull.begin()

    def _in_force(self) -> Engine:
        """Return the engine of the next group; with the turn."""
        engine = self._engine
        assert engine is not None
        if (change := self._renewed()) is not None:
            return self._changed(engine, change)
        return engine

    def _changed(self, engine: Engine, change: Change) -> Engine:
        """Return the engine of the next group."""
        try:
            engine.state.rules.decide_by(*change.engine.decides_by)
        except FraudError as error:
            _LOG.error("the rules in force stay: %s", error)
            return engine
        self._engine, self._about = change.engine, dict(change.about)
        change.taken(time.time_ns() // 1_000)
        # A model takes milliseconds to be freed, which no request shall wait for.
        release = threading.Timer(_RELEASE_SECONDS, [engine].clear)
        release.daemon = True
        release.start()
        return change.engine

    def _joined(self, engine: Engine, first: Entry) -> list[Entry]:
        """Return the calls that wait and may share a group."""
        group = Joining(engine, first)
        if not first.call.record:
            return group.entries
        large = first.rows >= LARGE_CALL
        most = _GROUP_ROWS_OF_LARGE if large else _GROUP_ROWS
        while group.rows < most:
            try:
                entry = self._queue.get_nowait()
            except Empty:
                break
            if (
                not isinstance(entry, Entry)
                or not entry.call.record
                or group.rows + entry.rows > most
                or (large and entry.rows < LARGE_CALL)
                or not group.take(entry)
            ):
                self._held.append(entry)
                break
        return group.entries

    def _settle(self, engine: Engine) -> None:
        """Do between two answers what the next one would have to wait for."""
        if self._turn.taken():
            try:
                _settle(engine)
            finally:
                self._turn.release()
        if not self._arrived:
            self._lull.begin()


def _settle(engine: Engine) -> None:
    try:
        engine.state.windows.settle()
    except FraudError as error:
        # The next row meets it, too.
        _LOG.error("%s", error)
