"""Answer a group of calls: compute it, commit it, and hand its answers over."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.errors import FraudError
from beam_fraud.serve.answered_rows import decisions_of
from beam_fraud.serve.answers import Answered
from beam_fraud.serve.archive import find_answers
from beam_fraud.serve.engine import Engine, ReadRecords
from beam_fraud.serve.group import TIMEOUT, Group, marked
from beam_fraud.serve.metrics import Metrics, count
from beam_fraud.serve.predictions import Call
from beam_fraud.serve.state import LABELS
from beam_fraud.wording import place_of

_LOG = logging.getLogger(__name__)
#: Rows from which a call is large.
LARGE_CALL = 256
#: Reasons of answers whose transaction could not be made durable, or not be scored.
_NOT_STORED, _FAILED = "not_stored", "failed"
#: Seconds between two attempts to write.
_AGAIN = 0.2
Mask = npt.NDArray[np.bool_]


class Entry:
    """A call on its way."""

    __slots__ = ("answered", "call", "future", "late", "read", "rows", "since")

    def __init__(self, call: Call, future: asyncio.Future[Answered]) -> None:
        self.call = call
        self.future = future
        self.rows = len(call.records) if call.table is None else len(call.table)
        self.since = time.perf_counter()
        #: Whether the caller has its answer.
        self.answered = False
        #: Whether that was the fallback.
        self.late = False
        #: The transactions, where a thread reads them before their group.
        self.read: Future[ReadRecords | None] | None = None


#: Type: a call, its answers or why there are none, and the records whose answer is in a file of the
#: archive.
_Result: TypeAlias = tuple[Entry, Answered | Exception, dict[int, str]]


class Joining:
    """The calls of a group that grows, each of which is looked at once.

    What is no plain transaction is read one call at a time.

    Args:
      engine: the engine.
      first: the first call.
    """

    def __init__(self, engine: Engine, first: Entry) -> None:
        self.entries = [first]
        self.rows = first.rows
        self._engine = engine
        #: Whether no call has a table, and how many at the front are known to be read.
        self._plain = first.call.table is None
        self._read = 0

    def take(self, entry: Entry) -> bool:
        """Add a call if it may join: with tables, if all are read; return whether it did."""
        plain = self._plain and entry.call.table is None
        if not plain:
            if not (self._all_read() and self._has_read(entry)):
                return False
            self._read += 1
        self._plain = plain
        self.entries.append(entry)
        self.rows += entry.rows
        return True

    def _all_read(self) -> bool:
        while self._read < len(self.entries) and self._has_read(self.entries[self._read]):
            self._read += 1
        return self._read == len(self.entries)

    def _has_read(self, entry: Entry) -> bool:
        return self._engine.has_read(_read(entry))


@dataclass(frozen=True)
class Block:
    """Rows of a followed topic."""

    #: A raw batch (`sources.raw`).
    raw: pa.RecordBatch
    #: "topic:partition" to the offset of the next message.
    positions: Mapping[str, int]
    #: Called once they are durable.
    done: Callable[[], None]


class GroupCommit:
    """Answers groups, each with one commit; by whoever has the turn to work with the engine.

    Args:
      metrics: receives times and outcomes.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        #: Held where a call gets its answer or its fallback.
        self._lock = threading.Lock()
        self._lookups = set[asyncio.Future[None]]()
        #: Whether the event loop has the turn.
        self.in_loop = False
        #: Rows of calls without an answer.
        self.waiting = 0
        #: Why the state could not be written; None again when all of it is.
        self.failure: FraudError | None = None
        #: Directory of the archive, in which earlier answers are found.
        self.scores = Path()

    def answer(self, engine: Engine, entries: list[Entry]) -> None:
        """Answer a group; a failure costs its calls alone."""
        try:
            self._answer(engine, entries)
        except Exception as error:
            # Without the engine's thread every later call would wait for ever.
            self._fail(engine, entries, error)

    def _answer(self, engine: Engine, entries: list[Entry]) -> None:
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
        encodes = entries[0].rows < LARGE_CALL and not any(
            entry.call.features or entry.call.table is not None for entry in entries
        )
        encoded: list[Answered] = []

        def encode() -> None:
            # What fails here fails again, after the commit.
            with suppress(Exception):
                encoded.append(group.answered.with_encoded())

        commit = partial(engine.state.commit, meanwhile=encode if encodes else None)
        if recorded and not self.store(commit):
            _amend(engine, group, marked(group.new, _NOT_STORED))
            encoded.clear()
        stored = time.perf_counter()
        answered = group.answered
        if encodes:
            answered = encoded[0] if encoded else answered.with_encoded()
        overtaken = self._claimed(entries)
        # First of all: what follows delays no answer.
        self._deliver(entries, overtaken, answered, group.archived)
        if recorded:
            if overtaken - early:
                now_late = _rows_of(overtaken - early, entries)
                rows = engine.defaulted(group.new, now_late[group.new_places], TIMEOUT)
                _amend(engine, group, rows)
            engine.state.answers.sent()
            engine.state.forward_flagged(group.recorded)
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

        if self.in_loop:
            # After the answers have been written.
            loop = entries[0].future.get_loop()
            loop.call_soon(loop.call_soon, account)
        else:
            account()

    def expire(self, engine: Engine, entry: Entry) -> None:
        """Answer a call by the fallback, in the event loop."""
        with self._lock:
            if entry.answered:
                return
            entry.answered = entry.late = True
        self._set_one(entry, self._fallback(engine, entry, TIMEOUT))

    def _fallback(self, engine: Engine, entry: Entry, reason: str) -> Answered | Exception:
        """Return the fallback for a call; an exception if not even that can be computed."""
        try:
            answers = engine.fallbacks(entry.call, reason)
        except Exception as error:
            _LOG.error("no fallback: %s", place_of(error))
            return error
        self._note(answers)
        return answers

    def _set_one(self, entry: Entry, result: Answered | Exception) -> None:
        if entry.future.done():
            # The caller has gone.
            return
        if isinstance(result, Exception):
            entry.future.set_exception(result)
        else:
            entry.future.set_result(result)

    def _claimed(self, entries: list[Entry]) -> set[int]:
        """Claim the calls to answer; return the numbers of those that got the fallback."""
        with self._lock:
            late = {number for number, entry in enumerate(entries) if entry.answered}
            for entry in entries:
                entry.answered = True
        return late

    def _deliver(
        self,
        entries: list[Entry],
        late: set[int],
        answered: Answered,
        archived: Mapping[int, str],
    ) -> None:
        results: list[_Result] = []
        start = 0
        if answered.encoded is None and len(entries) > 1:
            answered = answered.with_joint()
        for number, entry in enumerate(entries):
            stop = start + entry.rows
            if number not in late:
                part = answered if len(entries) == 1 else answered.part(start, stop)
                if not entry.call.features:
                    part = part.without_features()
                own: dict[int, str] = {}
                if archived:
                    own = {at - start: name for at, name in archived.items() if start <= at < stop}
                results.append((entry, part, own))
            start = stop
        self.hand_over(entries, results)

    def hand_over(self, entries: list[Entry], results: list[_Result]) -> None:
        """Have the event loop `set` answers, at once if it has the turn."""
        if self.in_loop:
            self.set(entries, results)
            return
        loop = entries[0].future.get_loop()
        try:
            loop.call_soon_threadsafe(self.set, entries, results)
        except RuntimeError:
            # The loop is closed, and so are the connections.
            _LOG.debug("%d calls were answered after the server had stopped", len(entries))

    def set(self, entries: list[Entry], results: list[_Result]) -> None:
        """Hand answers to their callers, in the event loop."""
        for entry in entries:
            self.waiting -= entry.rows
        for entry, answered, archived in results:
            if archived and isinstance(answered, Answered) and not entry.future.done():
                task = asyncio.ensure_future(self._look_up(entry, answered, archived))
                self._lookups.add(task)
                task.add_done_callback(self._lookups.discard)
            else:
                self._set_one(entry, answered)

    async def _look_up(self, entry: Entry, answered: Answered, archived: dict[int, str]) -> None:
        """Add answers from files of the archive, which are read in another thread."""
        try:
            found = await asyncio.to_thread(find_answers, self.scores, set(archived.values()))
            result: Answered | FraudError = answered.with_archived(archived, found)
        except FraudError as error:
            result = error
        self._set_one(entry, result)

    def _give_up(self, engine: Engine, entries: list[Entry], error: Exception) -> None:
        """Answer by the fallback after a failure, and restore the state as of the last commit."""
        # The text of other errors may hold values of a transaction.
        why = str(error) if isinstance(error, FraudError) else place_of(error)
        _LOG.error("%d calls failed: %s", len(entries), why)
        engine.state.discard()
        late = self._claimed(entries)
        results = list[_Result]()
        for number, entry in enumerate(entries):
            if number not in late:
                results.append((entry, self._fallback(engine, entry, _FAILED), {}))
        self.hand_over(entries, results)

    def _fail(self, engine: Engine, entries: list[Entry], error: Exception) -> None:
        """Answer by an error, and restore the state as of the last commit."""
        _LOG.error("%d calls failed: %s", len(entries), place_of(error))
        engine.state.discard()
        self._claimed(entries)
        self.hand_over(entries, [(entry, error, {}) for entry in entries])

    def follow(self, engine: Engine, block: Block) -> None:
        """Take rows of a topic into the state, with a commit."""
        followed = engine.follow(block.raw)
        engine.state.move(block.positions)
        if followed.labels is not None:
            engine.state.take(LABELS, followed.labels)
        while not self.store(engine.state.commit):
            time.sleep(_AGAIN)
        engine.state.answers.sent()
        engine.state.forward_flagged(followed.new)
        engine.forward_audited(followed.new)
        block.done()

    def store(self, commit: Callable[[], None]) -> bool:
        """Write the state by a call; return whether that succeeded."""
        try:
            commit()
        except FraudError as error:
            if self.failure is None:
                _LOG.error("answers go on, but are not stored: %s", error)
            self.failure = error
            return False
        if self.failure is not None:
            _LOG.info("the state can be written again: all answers are stored")
            self.failure = None
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


def _computed(engine: Engine, entries: Sequence[Entry], late: Mask | None) -> Group:
    call = entries[0].call
    if not call.record:
        if call.table is not None:
            return engine.peek_table(call.table, features=call.features)
        return engine.peek(call.records, features=call.features)
    features = any(entry.call.features for entry in entries)
    if entries[0].read is not None:
        read = engine.record_read([_read(entry) for entry in entries], late, features=features)
        if read is not None:
            return read
    if call.table is not None:
        return engine.record_table(call.table, features=features)
    records = [record for entry in entries for record in entry.call.records]
    return engine.record(records, late, features=features)


def _read(entry: Entry) -> ReadRecords | None:
    """Wait for the rows of a call; return None without them."""
    if entry.read is None or entry.read.exception() is not None:
        # What failed there fails again here, where it is answered.
        return None
    return entry.read.result()


def _rows_of(numbers: set[int], entries: Sequence[Entry]) -> Mask:
    """Return which rows of a group belong to some of its calls; bool[n]."""
    chosen = [number in numbers for number in range(len(entries))]
    return np.repeat(chosen, [entry.rows for entry in entries])


def _amend(engine: Engine, group: Group, rows: pa.RecordBatch) -> None:
    """Record that callers get, or got, other answers than were computed."""
    if len(rows):
        engine.state.answers.amend(rows)
        group.amend(rows)
