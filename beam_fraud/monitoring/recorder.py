"""Record the status of a worker process in a small file, replaced now and then."""

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
        self._latency = LatencyHistogram()
        self._began = self._scored_at = 0.0
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

    @property
    def done(self) -> int:
        """Transactions scored, dead or dropped as duplicates."""
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

    def scored(self, rows: int, appended_ms: int, now: float) -> None:
        """Record the latency of rows from broker to score.

        Args:
          rows: number of rows.
          appended_ms: broker timestamp of the oldest row, milliseconds of the epoch.
          now: current time, seconds of the epoch.
        """
        with self._lock:
            self._latency.add(now - appended_ms / 1000, rows)
            self._scored_at = now

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
