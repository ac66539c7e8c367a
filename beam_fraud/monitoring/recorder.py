"""What one worker process tells of a stream: a small file, replaced now and then."""

from __future__ import annotations

import os
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

import msgspec

from beam_fraud.monitoring.counters import ROWS_IN
from beam_fraud.monitoring.latency import LatencyHistogram
from beam_fraud.monitoring.snapshot import Position, Snapshot
from beam_fraud.storage.atomic import write_file

#: Ending of the files that are read; others are not whole yet.
ENDING = ".json"
_SECONDS_BETWEEN_WRITES = 0.25
#: Directory to the recorder of this process.
_recorders: dict[Path, Recorder] = {}
_opening = threading.Lock()


class Recorder:
    """Counts for all steps of this process, in whatever threads they run; made by `recorder`."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / f"{os.getpid()}-{uuid.uuid4().hex[:12]}{ENDING}"
        self._counters: dict[str, int] = {}
        self._positions: dict[str, Position] = {}
        self._latency = LatencyHistogram()
        self._began = self._scored_at = 0.0
        self._written_at = 0.0
        self._closed = False
        self._lock = threading.Lock()
        #: Writes what came too soon after the last time, if nothing else does.
        self._later: threading.Timer | None = None

    def count(self, name: str, rows: int) -> None:
        """Add rows to a counter (`counter_names`)."""
        with self._lock:
            if name == ROWS_IN and not self._began:
                self._began = time.time()
            self._counters[name] = self._counters.get(name, 0) + rows

    @property
    def done(self) -> int:
        """Transactions that were scored, dead or duplicates."""
        with self._lock:
            return Snapshot(self._counters).done

    def position(self, source: str, next_offset: int, high: int) -> None:
        """Tell how far a source is read.

        Args:
          source: `<topic>:<partition>`.
          next_offset: of the message that is read next.
          high: the offset that the next message to arrive will have.
        """
        with self._lock:
            self._positions[source] = Position(next_offset, high, time.time())

    def scored(self, rows: int, appended_ms: int, now: float) -> None:
        """Note how long rows took from the broker to their score.

        Args:
          rows: how many.
          appended_ms: when the broker took the oldest of them, milliseconds of the epoch.
          now: seconds of the epoch.
        """
        with self._lock:
            self._latency.add(now - appended_ms / 1000, rows)
            self._scored_at = now

    def flush(self, force: bool = False) -> None:
        """Write the file; a moment later if that was done a moment ago, for nothing may follow.

        A disk that is full, or absent, shall fail the run by its results, not by this.

        Args:
          force: write it in any case, because the process may end.
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
        # Also when nothing has changed: the time in it says that the worker lives.
        snapshot = Snapshot(
            self._counters,
            self._positions,
            self._latency,
            time.time(),
            os.getpid(),
            self._began,
            self._scored_at,
        )
        write_file(self._file, msgspec.json.encode(snapshot), durable=False)


def recorder(directory: str | Path) -> Recorder:
    """Return the recorder of this process for a directory: the same one for all who ask."""
    path = Path(directory)
    with _opening:
        if path not in _recorders:
            _recorders[path] = Recorder(path)
        return _recorders[path]


def rows_counted() -> int:
    """Transactions of which something became in this process, over all its recorders."""
    return sum(each.done for each in tuple(_recorders.values()))


def close_recorder(directory: str | Path) -> None:
    """Write what the recorder of this process holds, if there is one, and forget it."""
    with _opening:
        closing = _recorders.pop(Path(directory), None)
    if closing is not None:
        closing.close()


def count_everywhere(name: str, rows: int) -> None:
    """Add rows to a counter in every recorder of this process; there is none but in a stream."""
    for each in tuple(_recorders.values()):
        each.count(name, rows)
