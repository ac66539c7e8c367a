"""What a server does beside its answers: its archive, folds of the journal, garbage."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable
from functools import partial

from beam_fraud.errors import FraudError
from beam_fraud.serve.kept_answers import Prepared
from beam_fraud.serve.state import ServerState
from beam_fraud.serve.turn import Turn

_LOG = logging.getLogger(__name__)
#: Seconds between two looks at the archive and the journal.
_TICK = 0.2
#: Answers that are worth to be passed to the archive: columns of few rows take as long.
_WORTH_ROWS = 256
#: Seconds between two parts of the work, in which answers have the interpreter for themselves.
_PAUSE = 0.005
#: Ticks without a group between two collections of all garbage.
_FULL_COLLECTION = 150


class Upkeep:
    """Keeps the state in order, in a thread of its own.

    No call waits for it but for moments: what takes long is done without the turn, in short parts,
    for an answer also waits while this thread has the interpreter.

    Args:
      state: the state.
      turn: the turn to work with the state.
      store: writes the state by a call, and returns whether that succeeded.
      failed: called with an unexpected error, which ends this thread.
    """

    def __init__(
        self,
        state: ServerState,
        turn: Turn,
        store: Callable[[Callable[[], None]], bool],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._state = state
        self._turn = turn
        self._store = store
        self._failed = failed
        self._ended = threading.Event()
        #: Groups that were answered, and at the last look; and ticks since the last of them.
        self.groups = self._before = self._idle = 0
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
            while not self._ended.wait(_TICK):
                self._look()
        except BaseException as error:
            self._failed(error)

    def _look(self) -> None:
        """Do what is worth while."""
        state, groups = self._state, self.groups
        self._idle = self._idle + 1 if groups == self._before else 0
        self._before = groups
        with self._turn.claimed():
            failure = self._failure_of(partial(state.tick, anew=self.failure is not None))
            if state.changed:
                self._store(state.commit)
            folds = state.due or (self._idle > 0 and state.untidy)
            worth = 1 if folds or self.failure is not None else _WORTH_ROWS
            unarchived = state.answers.groups() if state.answers.rows >= worth else None
        prepared = None if unarchived is None else unarchived.prepared(self._pause)
        if prepared is not None or folds:
            with self._turn.claimed():
                written = self._failure_of(partial(self._file_away, prepared, folds=folds))
            failure = failure or written
        self._note(failure)
        if folds:
            self._end_fold()
        self._pause()
        # The command turns automatic collections off, which may come within an answer. Often: what
        # few answers left takes a part of a millisecond.
        if folds or not self._idle:
            gc.collect(1 if folds else 0)
        elif self._idle % _FULL_COLLECTION == 0:
            gc.collect()

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
        self._ended.wait(_PAUSE)

    def _end_fold(self) -> None:
        try:
            self._state.end_fold(self._pause)
        except FraudError as error:
            if not self._unfolded:
                _LOG.error("answers are stored in the journal alone, which grows: %s", error)
            self._unfolded = True
        else:
            self._unfolded = False
