"""The staging directory of a run's files until the run has succeeded."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from beam_fraud.storage import atomic, lock
from beam_fraud.storage.parquet_writer import is_ours

_PREFIX = ".incoming-"
_STARTING = ".starting-"
#: Unpublished parts of a stream, which it publishes or replaces when it resumes.
UNFINISHED_PARTS = f".part-[0-9][0-9][0-9]-*{atomic.ENDING}"
#: Prefix of directories under `--out` with the rows that wait for the commit to a table.
UNCOMMITTED = ".iceberg-"
#: Prefix of an erasure's temporary file, until it replaces the old one.
REWRITTEN = ".rewritten-"
#: In a directory of dead letters: headers of their CSV files, and prefix of the files that list
#: replayed ones.
HEADERS, REPLAYED = ".headers.json", ".replayed-"
#: Prefix of runs that only hold records which another run of their process scores.
REPLAYING = "replay-"
#: Retries if another run removes a new staging as a dead one's.
_TRIES = 20


@dataclass(frozen=True)
class Staging:
    """`DIRECTORY/.incoming-<run>`: locked while its run lives, and ready after its success.

    Publication starts with the ready mark. A run killed before leaves only the staging; the next
    run finishes the publication of one killed after.
    """

    #: Final directory of the files.
    directory: Path
    #: Run id, valid in a file name.
    run_id: str

    @property
    def path(self) -> Path:
        """The staging directory itself."""
        return self.directory / f"{_PREFIX}{self.run_id}"

    @property
    def ready(self) -> bool:
        """Return whether the run has succeeded, so that its files must be published."""
        return self._ready_mark.exists()

    @property
    def _ready_mark(self) -> Path:
        return self.path / "ready"

    def claim(self) -> None:
        """Create and lock the directory until `remove`, or the end of this process.

        Raises:
          OSError: the file system reports an error.
        """
        for _ in range(_TRIES):
            with suppress(FileNotFoundError):
                return self._start()
        self._start()

    def _start(self) -> None:
        # Lock it under another name first: no other run ever sees it unlocked. Until the lock,
        # another may remove it as a dead one's.
        starting = self.directory / f"{_STARTING}{self.run_id}"
        starting.mkdir()
        held = lock.lock(starting / "lock", wait=True)
        try:
            atomic.move(starting, self.path)
        except OSError:
            held.release()
            raise
        lock.hold(self.path, held)

    def claim_abandoned(self) -> bool:
        """Lock the directory if its run is dead; return whether it is."""
        try:
            lock.hold(self.path, lock.lock(self.path / "lock"))
        except (FileNotFoundError, BlockingIOError):
            return False
        return True

    def mark_ready(self) -> None:
        """Mark that every file is written and must be published."""
        self._ready_mark.touch()

    def remove(self) -> None:
        """Delete the directory with its contents, and release the lock."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.release()

    def release(self) -> None:
        """Release the lock, for the next run to finish or remove the directory."""
        lock.release(self.path)


def abandoned(directory: Path) -> Iterator[Staging]:
    """Yield the locked stagings of dead runs in `directory`, in order of readiness.

    Leftovers of runs that died before their staging are removed.
    """
    for starting in directory.glob(f"{_STARTING}*"):
        _remove_dead_start(starting)
    stagings = [Staging(directory, p.name.removeprefix(_PREFIX)) for p in _incoming(directory)]
    for staging in sorted(stagings, key=_readiness):
        if staging.claim_abandoned():
            try:
                yield staging
            finally:
                # Release it even after a failure: the next run retries.
                staging.release()


def _remove_dead_start(starting: Path) -> None:
    try:
        held = lock.lock(starting / "lock")
        try:
            # Rename first: a run about to lock it finds nothing, and starts again.
            dead = starting.with_name(f"{_STARTING}{uuid.uuid4().hex}")
            atomic.move(starting, dead)
        finally:
            held.release()
    except (FileNotFoundError, NotADirectoryError, BlockingIOError):
        return
    shutil.rmtree(dead, ignore_errors=True)


def at_work(directory: Path) -> bool:
    """Return whether runs write to `directory`, after `abandoned` has handled dead ones.

    This process's own holds for a replay do not count.
    """
    others = [
        path
        for path in _incoming(directory)
        if not (lock.holds(path) and path.name.startswith(f"{_PREFIX}{REPLAYING}"))
    ]
    return bool(others) or any(directory.glob(f"{_STARTING}*"))


def foreign_entry(directory: Path, *, of_stream: bool = False) -> Path | None:
    """Return an entry in `directory` that no run or erasure created, or None.

    Args:
      directory: directory of runs' parts.
      of_stream: whether a stream writes there, whose unfinished parts are not foreign.
    """
    if not directory.is_dir():
        return directory if directory.exists() else None
    for entry in sorted(directory.iterdir()):
        if entry.name.startswith((_PREFIX, _STARTING, HEADERS, REPLAYED, REWRITTEN)):
            continue
        if of_stream and entry.match(UNFINISHED_PARTS):
            continue
        if not (entry.match("part-*.parquet") and entry.is_file() and is_ours(entry)):
            return entry
    return None


def _incoming(directory: Path) -> list[Path]:
    return list(directory.glob(f"{_PREFIX}*"))


def _readiness(staging: Staging) -> float:
    mark = staging.path / "ready"
    return mark.stat().st_mtime if mark.exists() else 0.0
