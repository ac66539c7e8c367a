"""Work of a server beside its answers: its archive, folds of the journal, garbage."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable
from functools import partial

from beam_fraud.errors import FraudError
from beam_fraud.serve.kept_answers import Prepared
from beam_fraud.serve.lull import Lull
from beam_fraud.serve.state import ServerState
from beam_fraud.serve.turn import Turn

_LOG = logging.getLogger(__name__)
#: Seconds between two collections of young garbage, and how many of them there are between two
#: looks at the archive and the journal. Often: what few answers left takes a part of a millisecond.
_TICK, _TICKS = 0.05, 4
#: Answers that are worth to be passed to the archive: columns of few rows take as long.
_WORTH_ROWS = 256
#: Seconds that a part of the work waits for a lull.
_PAUSE = 0.005
#: Looks without a group between two collections of all garbage.
_FULL_COLLECTION = 150


class Upkeep:
    """Keeps the state in order, in a thread of its own.

    No call waits for it but for moments: what takes long is done without the turn, in short parts,
    each of which begins in a lull, for an answer also waits while this thread has the interpreter.

    Args:
      state: the state.
      turn: the turn to work with the state.
      lull: tells when nothing is being answered.
      store: writes the state by a call, and returns whether that succeeded.
      failed: called with an unexpected error, which ends this thread.
    """

    def __init__(
        self,
        state: ServerState,
        turn: Turn,
        lull: Lull,
        store: Callable[[Callable[[], None]], bool],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._state = state
        self._turn = turn
        self._lull = lull
        self._store = store
        self._failed = failed
        self._ended = threading.Event()
        #: Groups that were answered, and at the last look; and looks since the last of them.
        self.groups = self._before = self._idle = 0
        #: Groups whose garbage was collected.
        self._collected = 0
        #: Why the archive could not be written; None again when all of it is.
        self.failure: FraudError | None = None
        #: Whether the last fold of the journal failed.
        self._unfolded = False
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Start."""
        self._thread.start()

    def close(self) -> None:
        """End what is being done, and the thread."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            ticks = 0
            while not self._ended.wait(_TICK):
                ticks += 1
                self._collect()
                if ticks % _TICKS == 0:
                    self._look()
        except BaseException as error:
            self._failed(error)

    def _look(self) -> None:
        """Do what is worth while."""
        state, groups = self._state, self.groups
        self._idle = self._idle + 1 if groups == self._before else 0
        self._before = groups
        state.close_complete_files()
        self._pause()
        with self._turn.claimed():
            failure = self._failure_of(partial(state.tick, anew=self.failure is not None))
            if state.changed:
                self._store(state.commit)
            folds = state.due or (self._idle > 0 and state.untidy)
            worth = 1 if folds or self.failure is not None else _WORTH_ROWS
            unarchived = state.answers.groups() if state.answers.rows >= worth else None
        if unarchived is not None:
            self._pause()
        prepared = None if unarchived is None else unarchived.prepared(self._pause)
        written = None
        if prepared is not None or folds:
            self._pause()
            with self._turn.claimed():
                written = self._failure_of(partial(self._file_away, prepared, folds=folds))
        self._note(failure or written)
        if prepared is not None and written is None:
            state.answers.remember(prepared, self._pause)
        if folds:
            self._end_fold()
        if self._idle and self._idle % _FULL_COLLECTION == 0:
            gc.collect()

    def _collect(self) -> None:
        """Collect young garbage: the command turns off collections that may come in an answer."""
        if self.groups != self._collected:
            self._collected = self.groups
            self._pause()
            # What survives is not looked at again: the next one takes as little time.
            gc.collect(1)

    def _file_away(self, prepared: Prepared | None, *, folds: bool) -> None:
        if prepared is not None:
            self._state.archive(prepared)
        if folds:
            self._state.begin_fold()
        else:
            self._state.commit()

    def _failure_of(self, write: Callable[[], None]) -> FraudError | None:
        try:
            write()
        except FraudError as error:
            return error
        return None

    def _note(self, failure: FraudError | None) -> None:
        if failure is not None and self.failure is None:
            _LOG.error("answers go on, but wait for the archive: %s", failure)
        elif failure is None and self.failure is not None:
            _LOG.info("the archive can be written again")
        self.failure = failure

    def _pause(self) -> None:
        self._lull.awaited(_PAUSE)

    def _end_fold(self) -> None:
        try:
            self._state.end_fold(self._pause)
        except FraudError as error:
            if not self._unfolded:
                _LOG.error("answers are stored in the journal alone, which grows: %s", error)
            self._unfolded = True
        else:
            self._unfolded = False
