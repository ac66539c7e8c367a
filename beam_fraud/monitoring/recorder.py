"""Small files in which worker processes record their work, and the board that reads them."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from beam_fraud.errors import Code, FraudError
from beam_fraud.monitoring.counters import ROWS_IN
from beam_fraud.monitoring.latency import LatencyHistogram
from beam_fraud.monitoring.shadow import Dropped
from beam_fraud.monitoring.snapshot import Position, Snapshot, merge
from beam_fraud.storage.atomic import write_file

#: Suffix of complete files; others are unfinished.
ENDING = ".json"
_SECONDS_BETWEEN_WRITES = 0.25
#: Directory to the recorder of this process.
_recorders: dict[Path, Recorder] = {}
_opening = threading.Lock()


class Recorder:
    """Count for all steps and threads of this process; created by `recorder`."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / f"{os.getpid()}-{uuid.uuid4().hex[:12]}{ENDING}"
        self._counters: dict[str, int] = {}
        self._positions: dict[str, Position] = {}
        self._dropped: dict[str, Dropped] = {}
        self._latency = LatencyHistogram()
        self._began = self._scored_at = 0.0
        self._model_id = self._awaited = ""
        self._written_at = 0.0
        self._closed = False
        self._lock = threading.Lock()
        #: Timer that writes changes which came too soon after the last write.
        self._later: threading.Timer | None = None

    def count(self, name: str, rows: int) -> None:
        """Add rows to a counter (`counter_names`)."""
        with self._lock:
            if name == ROWS_IN and not self._began:
                self._began = time.time()
            self._counters[name] = self._counters.get(name, 0) + rows

    def note_dropped(self, key: str, dropped: Dropped) -> None:
        """Record that a challenger in shadow was dropped."""
        with self._lock:
            self._dropped.setdefault(key, dropped)

    def note_awaited(self, model_id: str) -> None:
        """Record which model waits for its windows; empty for none."""
        with self._lock:
            self._awaited = model_id

    @property
    def done(self) -> int:
        """Rows with an outcome (`Snapshot.done`)."""
        with self._lock:
            return Snapshot(self._counters).done

    def position(self, source: str, next_offset: int, high: int) -> None:
        """Record the position in a source.

        Args:
          source: `<topic>:<partition>`.
          next_offset: offset of the next message.
          high: offset of the next message to arrive.
        """
        with self._lock:
            self._positions[source] = Position(next_offset, high, time.time())

    def scored(self, rows: int, appended_ms: int, now: float, model_id: str) -> None:
        """Record the latency of rows from broker to score.

        Args:
          rows: number of rows.
          appended_ms: broker timestamp of the oldest row, milliseconds of the epoch.
          now: current time, seconds of the epoch.
          model_id: the model that scored them.
        """
        with self._lock:
            self._latency.add(now - appended_ms / 1000, rows)
            self._scored_at, self._model_id = now, model_id

    def flush(self, force: bool = False) -> None:
        """Write the file, delayed if it was written a moment ago, as no further call may come.

        A full or missing disk must fail the run by its results, not by this.

        Args:
          force: write at once, because the process may end.
        """
        now = time.monotonic()
        with self._lock:
            if self._closed:
                return
            if not force and now - self._written_at < _SECONDS_BETWEEN_WRITES:
                self._write_later()
                return
            self._written_at = now
            with suppress(OSError):
                self._write()

    def close(self) -> None:
        """Write for the last time."""
        self.flush(force=True)
        with self._lock:
            self._closed = True
            if self._later is not None:
                self._later.cancel()

    def _write_later(self) -> None:
        if self._later is None:
            self._later = threading.Timer(_SECONDS_BETWEEN_WRITES, self._late)
            self._later.daemon = True
            self._later.start()

    def _late(self) -> None:
        with self._lock:
            self._later = None
        self.flush(force=True)

    def _write(self) -> None:
        # Even without changes: its time shows that the worker is alive.
        snapshot = Snapshot(
            self._counters,
            self._positions,
            self._latency,
            time.time(),
            os.getpid(),
            self._began,
            self._scored_at,
            self._model_id,
            self._dropped,
            self._awaited,
        )
        write_file(self._file, msgspec.json.encode(snapshot), durable=False)


def recorder(directory: str | Path) -> Recorder:
    """Return the shared recorder of this process for a directory."""
    path = Path(directory)
    with _opening:
        if path not in _recorders:
            _recorders[path] = Recorder(path)
        return _recorders[path]


def rows_counted() -> int:
    """Return the processed transactions over all recorders of this process."""
    return sum(each.done for each in tuple(_recorders.values()))


def close_recorder(directory: str | Path) -> None:
    """Write and close the recorder of this process, if any."""
    with _opening:
        closing = _recorders.pop(Path(directory), None)
    if closing is not None:
        closing.close()


def count_everywhere(name: str, rows: int) -> None:
    """Add rows to a counter in every recorder of this process; only streams have any."""
    for each in tuple(_recorders.values()):
        each.count(name, rows)


def note_awaited_everywhere(model_id: str) -> None:
    """Record which model waits for its windows in every recorder; only streams have any."""
    for each in tuple(_recorders.values()):
        each.note_awaited(model_id)


def note_dropped_everywhere(key: str, dropped: Dropped) -> None:
    """Record a dropped challenger in every recorder of this process; only streams have any."""
    for each in tuple(_recorders.values()):
        each.note_dropped(key, dropped)


@contextmanager
def new_board(directory: Path) -> Iterator[Callable[[], Snapshot]]:
    """Create the empty directory of the workers' status files.

    After the body, the counts of this process are written; `read_board` still reads them.

    Args:
      directory: a directory for this run alone.

    Yields:
      A function that reads the directory as `read_board` does.

    Raises:
      FraudError: it cannot be created or emptied.
    """
    close_recorder(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for stale in directory.iterdir():
            stale.unlink()
    except OSError as error:
        raise FraudError(
            f"{directory}: cannot be made and emptied ({error.strerror}), "
            "give another --out or remove what is in the way",
            Code.OUTPUT_UNWRITABLE,
        ) from None
    try:
        yield lambda: read_board(directory)
    finally:
        close_recorder(directory)


def read_board(directory: Path) -> Snapshot:
    """Return the work of all workers; empty before any, or if the directory is gone."""
    return merge(_snapshots(directory))


def _snapshots(directory: Path) -> Iterator[Snapshot]:
    for file in sorted(directory.glob(f"*{ENDING}")):
        # A file may disappear at any time; ignore files of other versions.
        with suppress(OSError, msgspec.MsgspecError):
            yield msgspec.json.decode(file.read_bytes(), type=Snapshot)


class ProgressWriter:
    """Count the rows of a worker in its own file in `directory`."""

    def __init__(self, directory: str) -> None:
        self._file = Path(directory) / uuid.uuid4().hex
        self._rows = 0
        self._written_at = 0.0

    def add(self, rows: int) -> None:
        """Count rows; the file is at most a quarter of a second behind the next call."""
        self._rows += rows
        now = time.monotonic()
        if now - self._written_at >= _SECONDS_BETWEEN_WRITES:
            # A full disk must fail the run by its results, not by this.
            with suppress(OSError):
                self._file.write_text(str(self._rows))
            self._written_at = now


def rows_done(directory: str) -> int:
    """Return the rows counted by all workers."""
    total = 0
    for file in Path(directory).glob("*"):
        text = file.read_text()
        total += int(text) if text.isdecimal() else 0
    return total
