"""The queue between the event loop and the engine, which joins waiting calls to one commit."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.errors import FraudError
from beam_fraud.serve.answered_rows import decisions_of
from beam_fraud.serve.answers import Answered
from beam_fraud.serve.archive import find_answers
from beam_fraud.serve.engine import Engine
from beam_fraud.serve.group import TIMEOUT, Group, marked
from beam_fraud.serve.metrics import Metrics, count
from beam_fraud.serve.predictions import Call, Overloaded, Readiness, Unready
from beam_fraud.serve.state import DEAD, FLAGGED, LABELS
from beam_fraud.serve.turn import Turn
from beam_fraud.serve.upkeep import Upkeep
from beam_fraud.wording import place_of

_LOG = logging.getLogger(__name__)
#: Rows of a group, unless one call has more.
_GROUP_ROWS = 1_000
#: Rows from which a call is large, and rows of a group of such calls alone: a group costs as much
#: as 500 rows, and a flush of the disk. Single rows do not join them: they would wait longer.
_LARGE_CALL, _GROUP_ROWS_OF_LARGE = 256, 4_000
#: Seconds between two looks at what decides, without calls; and between two attempts to write.
_TICK = 0.2
#: Reasons of answers whose transaction could not be made durable, or not be scored.
_NOT_STORED, _FAILED = "not_stored", "failed"
#: Seconds after which an engine that another one has replaced is freed.
_RELEASE_SECONDS = 1.0
_ENDED = "the engine has ended by an error, which the log names; start the server again"
Mask = npt.NDArray[np.bool_]


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


class _Entry:
    """A call on its way."""

    __slots__ = ("answered", "call", "future", "late", "rows", "since")

    def __init__(self, call: Call, future: asyncio.Future[Answered]) -> None:
        self.call = call
        self.future = future
        self.rows = len(call.records) if call.table is None else len(call.table)
        self.since = time.perf_counter()
        #: Whether the caller has its answer.
        self.answered = False
        #: Whether that was the fallback.
        self.late = False


#: Type: a call, its answers or why there are none, and the records whose answer is in a file of the
#: archive.
_Result: TypeAlias = tuple[_Entry, Answered | Exception, dict[int, str]]


@dataclass(frozen=True)
class Block:
    """Rows of a followed topic."""

    #: A raw batch (`sources.raw`).
    raw: pa.RecordBatch
    #: "topic:partition" to the offset of the next message.
    positions: Mapping[str, int]
    #: Called once they are durable.
    done: Callable[[], None]


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

    With `Pace.in_loop` the event loop takes the engine's turn where it is free, for the calls that
    arrived together; all else is left to the thread.

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
        self._queue: SimpleQueue[_Entry | Block | None] = SimpleQueue()
        #: Taken from the queue, but not part of the group it was taken for.
        self._held: list[_Entry | Block | None] = []
        self._waiting = 0
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        self._turn = Turn()
        self._upkeep: Upkeep | None = None
        #: Whether the event loop has the turn, and the calls of its next one.
        self._in_loop = False
        self._arrived = list[_Entry]()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._failure: FraudError | None = None
        self._lookups = set[asyncio.Future[None]]()
        self._stopping = False
        #: Whether the thread has ended by an error.
        self._broken = False
        metrics.queue_depth = lambda: self._waiting

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
        self._engine = engine
        self._upkeep = Upkeep(engine.state, self._turn, self._store, self._end)
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
        if (why := self._refused()) is not None:
            raise Unready(why)
        if self._waiting > self._pace.waiting_rows:
            count(self._metrics.shed, "queue")
            raise Overloaded()
        loop = asyncio.get_running_loop()
        entry = _Entry(call, loop.create_future())
        self._waiting += entry.rows
        if self._pace.in_loop and call.table is None and call.record and entry.rows < _LARGE_CALL:
            self._arrived.append(entry)
            if call.alone:
                self._answer_arrived()
            elif len(self._arrived) == 1:
                loop.call_soon(self._answer_arrived)
        else:
            self._queue.put(entry)
        if self._broken:
            raise Unready(_ENDED)
        if self._pace.deadline is None or call.table is not None:
            return await entry.future
        timer = loop.call_later(self._pace.deadline, self._expire, entry)
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
        if self._failure is not None:
            reasons.append(f"the state cannot be written ({self._failure})")
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
        awaited, further = engine.state.awaited, dict[str, object]()
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
        if self._upkeep is not None:
            self._upkeep.close()
        for name, rows in self._engine.state.close(self._pace.drain).items():
            if rows:
                _LOG.warning(
                    "%s: %s rows wait in the state; the next server delivers them", name, rows
                )

    def close(self) -> None:
        """Do nothing more: `drain` closes the state."""

    def _expire(self, entry: _Entry) -> None:
        """Answer a call by the fallback, in the event loop."""
        engine = self._engine
        assert engine is not None
        with self._lock:
            if entry.answered:
                return
            entry.answered = entry.late = True
        self._set_one(entry, self._fallback(engine, entry, TIMEOUT))

    def _fallback(self, engine: Engine, entry: _Entry, reason: str) -> Answered | Exception:
        """Return the fallback for a call; an exception if not even that can be computed."""
        try:
            answers = engine.fallbacks(entry.call, reason)
        except Exception as error:
            _LOG.error("no fallback: %s", place_of(error))
            return error
        self._note(answers)
        return answers

    def _set_one(self, entry: _Entry, result: Answered | Exception) -> None:
        if entry.future.done():
            # The caller has gone.
            return
        if isinstance(result, Exception):
            entry.future.set_exception(result)
        else:
            entry.future.set_result(result)

    def _answer_arrived(self) -> None:
        """Answer the calls that arrived, in the event loop; leave them if the engine is busy."""
        entries, self._arrived = self._arrived, []
        group, rows = list[_Entry](), 0
        # Calls in the queue are older.
        if not (self._broken or self._held or not self._queue.empty()):
            for entry in entries:
                rows += entry.rows
                if group and rows > _GROUP_ROWS:
                    break
                group.append(entry)
        if not group or not self._turn.taken():
            group = []
        for entry in entries[len(group) :]:
            self._queue.put(entry)
        if not group:
            return
        self._in_loop = True
        try:
            self._answer_group(self._in_force(), group)
        except BaseException as error:
            self._end(error)
            self._set(group, [(entry, Unready(_ENDED), {}) for entry in group])
        finally:
            self._in_loop = False
            self._turn.release()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._end(error)
            while not self._queue.empty():
                self._held.append(self._queue.get_nowait())
            for entry in self._held:
                if isinstance(entry, _Entry):
                    self._hand_over([entry], [(entry, Unready(_ENDED), {})])

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
                    self._follow(engine, first)
                    continue
                joins = first.call.table is None and first.call.record
                self._answer_group(engine, self._joined(first) if joins else [first])

    def _answer_group(self, engine: Engine, entries: list[_Entry]) -> None:
        if self._upkeep is not None:
            self._upkeep.groups += 1
        try:
            self._answer(engine, entries)
        except Exception as error:
            # Without the engine's thread every later call would wait for ever.
            self._fail(engine, entries, error)

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

    def _joined(self, first: _Entry) -> list[_Entry]:
        """Return the calls that wait and may share a group."""
        entries, rows = [first], first.rows
        large = first.rows >= _LARGE_CALL
        most = _GROUP_ROWS_OF_LARGE if large else _GROUP_ROWS
        while rows < most:
            try:
                entry = self._queue.get_nowait()
            except Empty:
                break
            if (
                not isinstance(entry, _Entry)
                or entry.call.table is not None
                or not entry.call.record
                or rows + entry.rows > most
                or (large and entry.rows < _LARGE_CALL)
            ):
                self._held.append(entry)
                break
            entries.append(entry)
            rows += entry.rows
        return entries

    def _answer(self, engine: Engine, entries: list[_Entry]) -> None:
        begun = time.perf_counter()
        # Whose callers already got the fallback.
        early = {number for number, entry in enumerate(entries) if entry.late}
        late = _rows_of(early, entries) if early else None
        try:
            group = _computed(engine, entries, late)
        except Exception as error:
            self._give_up(engine, entries, error)
            return
        computed = time.perf_counter()
        recorded = entries[0].call.record
        # The answers of large calls are encoded in the event loop, beside the next group.
        encodes = entries[0].rows < _LARGE_CALL and not any(
            entry.call.features or entry.call.table is not None for entry in entries
        )
        encoded = list[Answered]()

        def encode() -> None:
            # What fails here fails again, after the commit.
            with suppress(Exception):
                encoded.append(group.answered.with_encoded())

        commit = partial(engine.state.commit, meanwhile=encode if encodes else None)
        if recorded and not self._store(commit):
            _amend(engine, group, marked(group.new, _NOT_STORED))
            encoded.clear()
        stored = time.perf_counter()
        answered = group.answered
        if encodes:
            answered = encoded[0] if encoded else answered.with_encoded()
        delivered, overtaken = self._claimed(entries)
        # First of all: what follows delays no answer.
        self._deliver(entries, delivered, answered, group.archived)
        if recorded:
            if overtaken - early:
                now_late = _rows_of(overtaken - early, entries)
                rows = engine.defaulted(group.new, now_late[group.new_places], TIMEOUT)
                _amend(engine, group, rows)
            engine.state.answers.sent()
            self._forward(engine, group.flagged, group.dead)
            audit = engine.state.settings.audit
            if audit is not None and group.audited(audit):
                engine.forward_audited(group.new)

        def account() -> None:
            stages = self._metrics.stages
            for entry in entries:
                stages["queue"].add(begun - entry.since)
            stages["engine"].add(computed - begun)
            stages["commit"].add(stored - computed)
            self._note(answered)

        if self._in_loop:
            # After the answers have been written.
            loop = entries[0].future.get_loop()
            loop.call_soon(loop.call_soon, account)
            loop.call_soon(loop.call_soon, self._settle, engine)
        else:
            account()
            _settle(engine)

    def _settle(self, engine: Engine) -> None:
        """Do between two answers what the next one would have to wait for."""
        if self._turn.taken():
            try:
                _settle(engine)
            finally:
                self._turn.release()

    def _forward(
        self, engine: Engine, flagged: pa.RecordBatch | None, dead: pa.RecordBatch
    ) -> None:
        if flagged is not None:
            engine.state.forward(FLAGGED, flagged)
        if len(dead):
            engine.state.forward(DEAD, dead)

    def _claimed(self, entries: list[_Entry]) -> tuple[set[int], set[int]]:
        """Return the numbers of the calls to answer, and of those that got the fallback."""
        with self._lock:
            late = {number for number, entry in enumerate(entries) if entry.answered}
            for entry in entries:
                entry.answered = True
        return set(range(len(entries))) - late, late

    def _deliver(
        self,
        entries: list[_Entry],
        delivered: set[int],
        answered: Answered,
        archived: Mapping[int, str],
    ) -> None:
        results, start = list[_Result](), 0
        for number, entry in enumerate(entries):
            stop = start + entry.rows
            if number in delivered:
                part = answered if len(entries) == 1 else answered.part(start, stop)
                own = {at - start: name for at, name in archived.items() if start <= at < stop}
                results.append((entry, part, own))
            start = stop
        self._hand_over(entries, results)

    def _hand_over(self, entries: list[_Entry], results: list[_Result]) -> None:
        if self._in_loop:
            self._set(entries, results)
            return
        loop = entries[0].future.get_loop()
        try:
            loop.call_soon_threadsafe(self._set, entries, results)
        except RuntimeError:
            # The loop is closed, and so are the connections.
            _LOG.debug("%d calls were answered after the server had stopped", len(entries))

    def _set(self, entries: list[_Entry], results: list[_Result]) -> None:
        """Hand answers to their callers, in the event loop."""
        self._waiting -= sum(entry.rows for entry in entries)
        for entry, answered, archived in results:
            if archived and isinstance(answered, Answered) and not entry.future.done():
                task = asyncio.ensure_future(self._look_up(entry, answered, archived))
                self._lookups.add(task)
                task.add_done_callback(self._lookups.discard)
            else:
                self._set_one(entry, answered)

    async def _look_up(self, entry: _Entry, answered: Answered, archived: dict[int, str]) -> None:
        """Add answers from files of the archive, which are read in another thread."""
        assert self._engine is not None
        scores = self._engine.state.settings.scores
        try:
            found = await asyncio.to_thread(find_answers, scores, set(archived.values()))
            result: Answered | FraudError = answered.with_archived(archived, found)
        except FraudError as error:
            result = error
        self._set_one(entry, result)

    def _give_up(self, engine: Engine, entries: list[_Entry], error: Exception) -> None:
        """Answer by the fallback after a failure, and restore the state as of the last commit."""
        # The text of other errors may hold values of a transaction.
        why = str(error) if isinstance(error, FraudError) else place_of(error)
        _LOG.error("%d calls failed: %s", len(entries), why)
        engine.state.discard()
        delivered, _ = self._claimed(entries)
        results = list[_Result]()
        for number, entry in enumerate(entries):
            if number in delivered:
                results.append((entry, self._fallback(engine, entry, _FAILED), {}))
        self._hand_over(entries, results)

    def _fail(self, engine: Engine, entries: list[_Entry], error: Exception) -> None:
        """Answer by an error, and restore the state as of the last commit."""
        _LOG.error("%d calls failed: %s", len(entries), place_of(error))
        engine.state.discard()
        self._claimed(entries)
        self._hand_over(entries, [(entry, error, {}) for entry in entries])

    def _follow(self, engine: Engine, block: Block) -> None:
        followed = engine.follow(block.raw)
        engine.state.move(block.positions)
        while not self._store(engine.state.commit):
            time.sleep(_TICK)
        engine.state.answers.sent()
        flagged = followed.new.filter(followed.new.column("flagged"))
        self._forward(engine, flagged if len(flagged) else None, followed.dead)
        engine.forward_audited(followed.new)
        if followed.labels is not None:
            engine.state.forward(LABELS, followed.labels)
        block.done()

    def _store(self, commit: Callable[[], None]) -> bool:
        """Return whether the state could be written."""
        try:
            commit()
        except FraudError as error:
            if self._failure is None:
                _LOG.error("answers go on, but are not stored: %s", error)
            self._failure = error
            return False
        if self._failure is not None:
            _LOG.info("the state can be written again: all answers are stored")
            self._failure = None
        return True

    def _note(self, answered: Answered) -> None:
        """Count outcomes."""
        metrics = self._metrics
        for decision, times in decisions_of(answered.given).items():
            count(metrics.decisions, decision, times)
        for reason in answered.degraded:
            count(metrics.degraded, reason)
        for fault in answered.faults.values():
            count(metrics.errors, fault.code)


def _computed(engine: Engine, entries: Sequence[_Entry], late: Mask | None) -> Group:
    call = entries[0].call
    if call.table is not None:
        return engine.record_table(call.table, features=call.features)
    if not call.record:
        return engine.peek(call.records, features=call.features)
    records = [record for entry in entries for record in entry.call.records]
    return engine.record(records, late, features=any(entry.call.features for entry in entries))


def _settle(engine: Engine) -> None:
    try:
        engine.state.settle()
    except FraudError as error:
        # The next row meets it, too.
        _LOG.error("%s", error)


def _rows_of(numbers: set[int], entries: Sequence[_Entry]) -> Mask:
    """Return which rows of a group belong to some of its calls; bool[n]."""
    chosen = [number in numbers for number in range(len(entries))]
    return np.repeat(chosen, [entry.rows for entry in entries])


def _amend(engine: Engine, group: Group, rows: pa.RecordBatch) -> None:
    """Record that callers get, or got, other answers than were computed."""
    if len(rows):
        engine.state.answers.amend(rows)
        group.amend(rows)
