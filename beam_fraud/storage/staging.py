"""The directory where a run's files wait until the run has succeeded."""

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
#: Parts of a stream that nobody sees yet; it publishes or replaces them when it goes on.
UNFINISHED_PARTS = f".part-[0-9][0-9][0-9]-*{atomic.ENDING}"
#: Beginning of the name of a file that an erasure writes, until it replaces the old one.
REWRITTEN = ".rewritten-"
#: In a directory of dead letters: the headers of the CSV files that they came from, and the
#: beginning of names of files that say which were put through again.
HEADERS, REPLAYED = ".headers.json", ".replayed-"
#: How names of runs begin that only hold the records which another run of their process scores.
REPLAYING = "replay-"
#: Times that a staging is started anew if another run takes its beginning for a dead one's.
_TRIES = 20


@dataclass(frozen=True)
class Staging:
    """`DIRECTORY/.incoming-<run>`: locked while its run lives, and ready once it has succeeded.

    Publishing starts with the mark that says ready. A run killed before it leaves nothing behind
    but the staging; what one killed after it has left to do, the next run does.
    """

    #: Where the files go in the end.
    directory: Path
    #: The run, as a file name can hold it.
    run_id: str

    @property
    def path(self) -> Path:
        """The staging directory itself."""
        return self.directory / f"{_PREFIX}{self.run_id}"

    @property
    def ready(self) -> bool:
        """Whether the run has succeeded, so that its files are to be published."""
        return self._ready_mark.exists()

    @property
    def _ready_mark(self) -> Path:
        return self.path / "ready"

    def claim(self) -> None:
        """Make the directory and hold it until `remove`, or until this process ends.

        Raises:
          OSError: the file system refuses.
        """
        for _ in range(_TRIES):
            with suppress(FileNotFoundError):
                return self._start()
        self._start()

    def _start(self) -> None:
        # Locked under another name first: no other run ever sees this one without its lock. Until
        # it has that, another may take it for a dead one's and remove it.
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
        """Hold the directory if the run that made it is dead; whether it is."""
        try:
            lock.hold(self.path, lock.lock(self.path / "lock"))
        except (FileNotFoundError, BlockingIOError):
            return False
        return True

    def mark_ready(self) -> None:
        """Say that every file is written and none of them may be thrown away."""
        self._ready_mark.touch()

    def remove(self) -> None:
        """Delete the directory with all that is left in it, and let go of it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.release()

    def release(self) -> None:
        """Let go of the directory as it is, for the next run to finish or remove."""
        lock.release(self.path)


def abandoned(directory: Path) -> Iterator[Staging]:
    """Yield the stagings of dead runs in `directory`, each held, in the order they became ready.

    What runs left that died before they had one is removed.
    """
    for starting in directory.glob(f"{_STARTING}*"):
        _remove_dead_start(starting)
    found = [Staging(directory, p.name.removeprefix(_PREFIX)) for p in _incoming(directory)]
    for staging in sorted(found, key=_readiness):
        if staging.claim_abandoned():
            try:
                yield staging
            finally:
                # Also where finishing it has failed: the next run does it.
                staging.release()


def _remove_dead_start(starting: Path) -> None:
    try:
        held = lock.lock(starting / "lock")
        try:
            # Renamed first: a run that was just about to lock it finds nothing, and starts again.
            dead = starting.with_name(f"{_STARTING}{uuid.uuid4().hex}")
            atomic.move(starting, dead)
        finally:
            held.release()
    except (FileNotFoundError, NotADirectoryError, BlockingIOError):
        return
    shutil.rmtree(dead, ignore_errors=True)


def at_work(directory: Path) -> bool:
    """Whether runs write to `directory`, once `abandoned` has gone through what dead ones left.

    What this process itself holds there for a replay does not count.
    """
    others = [
        path
        for path in _incoming(directory)
        if not (lock.holds(path) and path.name.startswith(f"{_PREFIX}{REPLAYING}"))
    ]
    return bool(others) or any(directory.glob(f"{_STARTING}*"))


def foreign_entry(directory: Path, *, of_stream: bool = False) -> Path | None:
    """Something in `directory` that neither a run nor an erasure has put there.

    Args:
      directory: of the parts of runs.
      of_stream: whether a stream writes there, whose unfinished parts are no foreign ones.
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
