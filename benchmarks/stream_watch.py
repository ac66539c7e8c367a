"""Record the times of flagged rows in SQLite and of lines in an alert file.

python -m benchmarks.stream_watch --database FILE --alerts FILE --out FILE

Runs until SIGTERM, then writes `--out` (NumPy's .npz): `flagged_ids`, `flagged_at`, `alert_ids`,
`alert_at`; milliseconds since 1970.
"""

from __future__ import annotations

import argparse
import signal
import sqlite3
import time
from io import BufferedReader
from pathlib import Path

import msgspec
import numpy as np

#: Seconds between two looks.
_INTERVAL = 0.002
_NEW = "SELECT rowid, transaction_id FROM flagged_transactions WHERE rowid > ? ORDER BY rowid"


class _Alert(msgspec.Struct):
    transaction_id: str


class FlaggedRows:
    """New rows of `flagged_transactions`."""

    def __init__(self, database: Path) -> None:
        """Describe the database, which need not exist yet."""
        self._database = database
        self._connection: sqlite3.Connection | None = None
        self._last = 0
        self.ids: list[int] = []
        self.at: list[int] = []

    def look(self) -> None:
        """Record new rows since the last call."""
        if self._connection is None:
            if not self._database.exists():
                return
            # Reads only, but not with mode=ro: that could not see what is in a write-ahead log.
            self._connection = sqlite3.connect(self._database, timeout=1, isolation_level=None)
        try:
            rows = self._connection.execute(_NEW, (self._last,)).fetchall()
        except sqlite3.OperationalError:
            # The table is not there yet, or somebody writes.
            return
        if rows:
            self._last = rows[-1][0]
            self.ids += [int(key) for _, key in rows]
            self.at += [time.time_ns() // 1_000_000] * len(rows)


class AlertLines:
    """New lines of a file of alerts."""

    def __init__(self, path: Path) -> None:
        """Describe the file, which need not exist yet."""
        self._path = path
        self._file: BufferedReader | None = None
        self._rest = b""
        self._decoder = msgspec.json.Decoder(_Alert)
        self.ids: list[int] = []
        self.at: list[int] = []

    def look(self) -> None:
        """Record new lines since the last call."""
        if self._file is None:
            if not self._path.exists():
                return
            self._file = open(self._path, "rb")  # noqa: SIM115  open as long as this process runs
        new = self._file.read()
        if not new:
            return
        *lines, self._rest = (self._rest + new).split(b"\n")
        self.ids += [int(self._decoder.decode(line).transaction_id) for line in lines]
        self.at += [time.time_ns() // 1_000_000] * len(lines)


def main() -> None:
    """Watch until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("--database", "--alerts", "--out"):
        parser.add_argument(name, required=True, type=Path)
    options = parser.parse_args()
    # Not an Event, whose lock the thread may hold that the handler interrupts.
    asked = list[int]()
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    rows, alerts = FlaggedRows(options.database), AlertLines(options.alerts)
    while not asked:
        rows.look()
        alerts.look()
        time.sleep(_INTERVAL)
    rows.look()
    alerts.look()
    np.savez(
        options.out,
        flagged_ids=np.array(rows.ids, np.int64),
        flagged_at=np.array(rows.at, np.int64),
        alert_ids=np.array(alerts.ids, np.int64),
        alert_at=np.array(alerts.at, np.int64),
    )


if __name__ == "__main__":
    main()
