"""Follow lists while rules ask for their values: one thread a list in a process."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from weakref import WeakSet

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.decisions.lists.declaration import Declared
from beam_fraud.decisions.lists.membership import Membership, Times, Turnover
from beam_fraud.decisions.lists.source import ListSource, Update
from beam_fraud.errors import Code, FraudError

_LOG = logging.getLogger(__name__)
#: Seconds for which a list is kept that no rule names: new rules may name it again, and then the
#: last known entries must be there even while its database is away.
_KEPT_SECONDS = 60.0
_FOLLOWED: dict[tuple[int, Path, str], _Followed] = {}
_OPENING = threading.Lock()


class LiveList:
    """A list that follows its file, table or topic; all of a process share its entries.

    Args:
      directory: the directory of the lists.
      name: of the list.

    Raises:
      UsageError: it is no name of a list, or its declaration cannot be used.
      FraudError: there is no such list, or it cannot be read.
    """

    def __init__(self, directory: Path, name: str) -> None:
        # A forked process has none of the threads.
        key = (os.getpid(), directory.absolute(), name)
        with _OPENING:
            followed = _FOLLOWED.get(key)
            if followed is None:
                followed = _FOLLOWED[key] = _Followed(*key)
            elif not followed.users:
                followed.look()
            followed.users.add(self)
        self._members = followed.members

    def of(self, column: pa.StringArray, times: Times) -> npt.NDArray[np.bool_]:
        """Return bool[n] as `Membership.of`, by what the thread has read."""
        return self._members.of(column, times)


class _Followed:
    """The entries of a list, and the thread that keeps them up to date."""

    def __init__(self, process: int, directory: Path, name: str) -> None:
        self._key = (process, directory, name)
        self._name, self._directory = name, directory
        self.users: WeakSet[LiveList] = WeakSet()
        self.members = Membership()
        self._looking = threading.Lock()
        #: The kind of the failure that was reported, and when it began.
        self._failing: Code | None = None
        self._failing_since = 0.0
        self._declared, self._source = self._opened()
        try:
            self.members.reload(self._source.read_all().changes)
        except BaseException:
            self._source.close()
            raise
        _LOG.info("list %s: %s entries, from %s", name, self._count(), self._source.describe())
        threading.Thread(target=self._run, name=f"list {name}", daemon=True).start()

    def _opened(self) -> tuple[Declared, ListSource]:
        declared = Declared.read(self._directory, self._name)
        return declared, declared.source()

    def _run(self) -> None:
        unused_since: float | None = None
        while True:
            time.sleep(self._source.look_seconds)
            if self.users:
                unused_since = None
                self.look()
            elif unused_since is None:
                unused_since = time.monotonic()
            elif time.monotonic() - unused_since > _KEPT_SECONDS and self._forgotten():
                return

    def _forgotten(self) -> bool:
        with _OPENING:
            if self.users:
                return False
            del _FOLLOWED[self._key]
        self._source.close()
        return True

    def look(self) -> None:
        """Take up changes; keep what is known while the source cannot be read, and say so once."""
        with self._looking:
            try:
                turnover = self._taken_up()
            except FraudError as error:
                self._report(error)
                return
            except Exception as error:
                # The list continues after any error of a client library. Its text may show values.
                _LOG.debug("list %s cannot be read", self._name, exc_info=True)
                self._report(FraudError(type(error).__name__, Code.INTERNAL_ERROR))
                return
        if self._failing is not None:
            waited = time.monotonic() - self._failing_since
            _LOG.info("list %s: is followed again after %.1f seconds", self._name, waited)
            self._failing = None
        if turnover:
            _LOG.info(
                "list %s: %s entries came, %s went, %s end at another time; %s now",
                *(self._name, f"{turnover.came:,}", f"{turnover.went:,}", f"{turnover.moved:,}"),
                self._count(),
            )

    def _taken_up(self) -> Turnover:
        declared = Declared.read(self._directory, self._name)
        if declared != self._declared:
            source = declared.source()
            try:
                update: Update | None = source.read_all()
            except BaseException:
                source.close()
                raise
            self._source.close()
            self._declared, self._source = declared, source
        else:
            update = self._source.read_new()
        if update is None:
            return Turnover()
        if not update.whole:
            turnover = self.members.apply(update.changes)
            if update.total in (None, len(self.members)):
                return turnover
            update = self._source.read_all()
            return turnover + self.members.reload(update.changes)
        return self.members.reload(update.changes)

    def _report(self, error: FraudError) -> None:
        if error.code == self._failing:
            return
        if self._failing is None:
            self._failing_since = time.monotonic()
        self._failing = error.code
        _LOG.error("list %s: stays as it was: %s", self._name, error)

    def _count(self) -> str:
        return f"{self.members.count(time.time_ns() // 1_000):,}"
