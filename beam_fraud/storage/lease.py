"""A lease on a URL: one run at a time writes there, as far as a store without locks can tell.

Every run has an object of its own, which it renews. A new run writes its own, then lists those of
all: of two that start at once, each writes before it lists, so that one at least sees the other.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from beam_fraud.errors import Code, FraudError
from beam_fraud.storage.store import ObjectStore

_NAME = "lease.json"
#: Seconds between two renewals, and without one until a run counts as dead.
_RENEWAL, _PATIENCE = 20.0, 120.0
#: Seconds between two looks at another run that starts at the same time.
_LOOK = 0.5

_State = Literal["asking", "writing", "ending"]


class LeaseRecord(msgspec.Struct, frozen=True):
    """The lease of a run, as its object says."""

    #: Folder of the run's own objects; earlier runs come first in order.
    folder: str
    #: What names the machine and its table of processes, and the process there.
    machine: str
    process: int
    #: Time of the last renewal, seconds of the epoch, by the clock of that machine.
    renewed: float
    state: _State

    def alive(self) -> bool:
        """Return whether the run still runs, as far as can be told from here."""
        if self.machine == _machine() and not _runs(self.process):
            return False
        return time.time() - self.renewed < _PATIENCE


class Lease:
    """The lease of a run.

    Args:
      store: the URL.
      folder: folder of the run's own objects there, such as `.rescoring-RUN`.
      option: the option with the URL, for messages.
    """

    def __init__(self, store: ObjectStore, folder: str, option: str) -> None:
        self._store, self._folder, self._option = store, folder, option
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name="lease", daemon=True)

    def acquire(self) -> None:
        """Take the lease and renew it until `release`.

        Raises:
          FraudError: another run has it.
          OSError: the store fails.
        """
        self._write("asking")
        try:
            while others := self._others():
                first = min(others, key=lambda other: (other.state == "asking", other.folder))
                if first.state != "asking" or first.folder < self._folder:
                    raise self._refusal(first)
                # The others see this one and withdraw, or have not seen it and go on.
                time.sleep(_LOOK)
            self._write("writing")
        except BaseException:
            self._remove()
            raise
        self._renewing.start()

    def end(self) -> bool:
        """Let no worker of the run write any more.

        Returns:
          Whether the run still had the lease.

        Raises:
          OSError: the store fails.
        """
        with self._lock:
            self._ended.set()
            if not holds_lease(self._store, self._folder):
                return False
            self._write("ending")
        return True

    def release(self) -> None:
        """Give the lease back; if the store fails, others have to wait for its end."""
        with self._lock:
            self._ended.set()
        self._remove()

    def _others(self) -> list[LeaseRecord]:
        prefix = f"{self._folder.partition('-')[0]}-*"
        found = leases(self._store, prefix)
        return [one for one in found if one.folder != self._folder and one.alive()]

    def _renew(self) -> None:
        while not self._ended.wait(_RENEWAL):
            # A store that fails now and then costs no lease; one that is lost stays so.
            with suppress(OSError), self._lock:
                if self._ended.is_set() or not holds_lease(self._store, self._folder):
                    return
                self._write("writing")

    def _write(self, state: _State) -> None:
        record = LeaseRecord(self._folder, _machine(), os.getpid(), time.time(), state)
        self._store.write(f"{self._folder}/{_NAME}", msgspec.json.encode(record))

    def _remove(self) -> None:
        with suppress(OSError):
            self._store.remove([f"{self._folder}/{_NAME}"])

    def _refusal(self, other: LeaseRecord) -> FraudError:
        since = max(time.time() - other.renewed, 0.0)
        return FraudError(
            f"{self._option}: a run on {other.machine.partition(' ')[0]} is writing there (seen "
            f"{since:.0f} s ago); wait for its end, or give another URL; of a run that was killed "
            f"on another machine, the lease ends after {_PATIENCE:.0f} s",
            Code.OUTPUT_IN_USE,
        )


def leases(store: ObjectStore, folders: str) -> list[LeaseRecord]:
    """Return the leases at a URL.

    Args:
      store: the URL.
      folders: pattern of the folders of runs.

    Raises:
      OSError: the store fails.
    """
    found = []
    for name in store.list(f"{folders}/{_NAME}"):
        with suppress(FileNotFoundError, msgspec.MsgspecError):
            found.append(msgspec.json.decode(store.read(name), type=LeaseRecord))
    return found


def holds_lease(store: ObjectStore, folder: str) -> bool:
    """Return whether a run has the lease and has not ended.

    Raises:
      OSError: the store fails.
    """
    try:
        data = store.read(f"{folder}/{_NAME}")
        return msgspec.json.decode(data, type=LeaseRecord).state == "writing"
    except (FileNotFoundError, msgspec.MsgspecError):
        return False


def _machine() -> str:
    """Return what names this machine and its table of processes; a container has its own."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip())
    with suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
