"""Positions in the sources and the state of every shard, in one SQLite file, changed together."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from beam_fraud.errors import Code, FraudError
from beam_fraud.monitoring.recorder import rows_counted
from beam_fraud.storage.database.sqlite_file import connect
from beam_fraud.storage.folder import make_directory

_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (
  source TEXT PRIMARY KEY, position TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deltas (
  id INTEGER PRIMARY KEY, step TEXT NOT NULL, shard INTEGER NOT NULL, level INTEGER NOT NULL,
  newest INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS deltas_of_shard ON deltas (step, shard, level, id);
"""
#: Layout of the file; another one is refused.
_VERSION = 1
#: Deltas of a level that are merged into one of the next.
_MERGED = 32
#: Deltas from this size on are left as they are: merging them would take too long at a time.
_LARGE = 4 << 20
#: `newest` of a delta that does not age; such deltas are not merged either.
FOREVER = (1 << 63) - 1
#: Before the name of a topic, among what is kept about a stream.
_TOPIC = "id of topic "
#: Every open checkpoint of this process: the steps of a graph share one transaction.
_open: dict[Path, LocalCheckpoint] = {}


class LocalCheckpoint:
    """A file that holds what a stream needs to go on: all of it as of the same moment.

    The steps of a graph that run in one process add what they want kept; `commit` makes that and
    the new positions durable in one transaction. A process that dies before leaves the file as it
    was at the last commit, and the next one starts there.

    Not for several processes at a time: `claim` sees to that.
    """

    def __init__(self, path: Path) -> None:
        """Open or make the file.

        Raises:
          FraudError: it cannot be used.
        """
        self.path = path
        self._versions: dict[tuple[str, int], int] = {}
        self._failure: FraudError | None = None
        #: Rows of this process whose results are stored, as of the last commit.
        self.rows = 0
        make_directory(path.parent)
        with self._one_line_errors():
            # Beam may run the steps in another thread than the one that opened the file.
            self._connection = connect(path)
            self._execute("PRAGMA journal_mode = WAL")
            # A power cut may take back the last commits, never a part of one: see `commit`.
            self._execute("PRAGMA synchronous = NORMAL")
            self._connection.executescript(_SCHEMA)
            version = self._about("version")
            if version is None:
                self._execute("INSERT INTO about VALUES ('version', ?)", (str(_VERSION),))
            elif version != str(_VERSION):
                raise FraudError(
                    f"{path}: kept by another version of this program; give another --out",
                    Code.STATE_UNREADABLE,
                )

    @classmethod
    def at(cls, path: Path) -> LocalCheckpoint:
        """Return the checkpoint of a file, one for all who ask in this process."""
        if path not in _open:
            _open[path] = cls(path)
        return _open[path]

    def close(self) -> None:
        """Forget what was not committed and close the file."""
        _open.pop(self.path, None)
        self._connection.close()

    def claim(self, about: Mapping[str, str]) -> bool:
        """Record which stream keeps its state here, or check that it is the recorded one.

        A name that an earlier call recorded and this one lacks stays recorded.

        Args:
          about: names to what must not change while the state is kept.

        Returns:
          Whether there is anything to go on from.

        Raises:
          FraudError: what was kept is of another stream.
        """
        with self._one_line_errors():
            for name, value in about.items():
                before = self._about(name)
                if before is None:
                    self._execute("INSERT INTO about VALUES (?, ?)", (name, value))
                elif before != value:
                    place = str(self.path.parent)
                    refuse_created_again(name, place)
                    raise FraudError(
                        f"{place}: holds a stream with another {name} ({before}, now {value}); "
                        "give another --out, or remove all of this one to start anew",
                        Code.STREAM_CHANGED,
                    )
        return bool(self.positions())

    def knows(self, name: str) -> bool:
        """Return whether an earlier `claim` has said something of that name."""
        return self.about(name) is not None

    def about(self, name: str) -> str | None:
        """Return what an earlier `claim` has said of that name."""
        with self._one_line_errors():
            return self._about(name)

    def positions(self) -> dict[str, str]:
        """Source to the position it had reached at the last commit."""
        with self._one_line_errors():
            return dict(self._execute("SELECT source, position FROM positions").fetchall())

    def commit(self, positions: Mapping[str, str]) -> None:
        """Make durable what the steps have kept since the last commit, and the new positions.

        Sinks have to be durable by then. A power cut may take back commits, and the stream then
        repeats what it did after them; nothing is lost.

        Raises:
          FraudError: the file cannot be written; the same from now on at every call.
        """
        self.refuse_failed()
        if not positions and not self._connection.in_transaction:
            # An idle stream writes nothing.
            return
        try:
            with self._one_line_errors():
                self._begin()
                self._connection.executemany(
                    "INSERT INTO positions VALUES (?, ?) "
                    "ON CONFLICT DO UPDATE SET position = excluded.position "
                    # A stream at rest writes nothing.
                    "WHERE position IS NOT excluded.position",
                    positions.items(),
                )
                self._execute("COMMIT")
            self.rows = rows_counted()
        except FraudError as error:
            # Beam logs what goes wrong after a bundle and goes on.
            self._failure = error
            raise

    def refuse_failed(self) -> None:
        """Raise what an earlier `commit` has raised."""
        if self._failure is not None:
            raise self._failure

    def kept(self, step: str, shard: int) -> list[bytes]:
        """Return the deltas of a shard, in the order in which they were kept."""
        with self._one_line_errors():
            rows = self._execute(
                "SELECT data FROM deltas WHERE step = ? AND shard = ? ORDER BY level DESC, id",
                (step, shard),
            )
            return [data for (data,) in rows]

    def shards(self, step: str) -> list[int]:
        """Return the shards of a step of which anything is kept."""
        with self._one_line_errors():
            rows = self._execute("SELECT DISTINCT shard FROM deltas WHERE step = ?", (step,))
            return sorted(shard for (shard,) in rows)

    def version(self, step: str, shard: int) -> int:
        """Changes with every change to what is kept of a shard in this process."""
        return self._versions.get((step, shard), 0)

    def keep(
        self, step: str, shard: int, deltas: Sequence[tuple[bytes, int]], *, replaces: bool = False
    ) -> None:
        """Add deltas (data and newest event time) to a shard, or put them in the place of all."""
        with self._one_line_errors():
            self._begin()
            if replaces:
                self._execute("DELETE FROM deltas WHERE step = ? AND shard = ?", (step, shard))
            self._connection.executemany(
                "INSERT INTO deltas (step, shard, level, newest, data) VALUES (?, ?, 0, ?, ?)",
                [(step, shard, newest, data) for data, newest in deltas],
            )
        self._versions[step, shard] = self.version(step, shard) + 1

    def to_merge(self, step: str, shard: int) -> list[tuple[int, list[bytes]]]:
        """Levels of a shard with enough small deltas to be merged, and those deltas."""
        found = []
        with self._one_line_errors():
            levels = self._execute(
                "SELECT level, count(*) FROM deltas WHERE step = ? AND shard = ? "
                "AND newest < ? AND length(data) < ? "
                "GROUP BY level HAVING count(*) >= ? ORDER BY level",
                (step, shard, FOREVER, _LARGE, _MERGED),
            ).fetchall()
            for level, _ in levels:
                found.append((level, [data for _, data, _ in self._level(step, shard, level)]))
        return found

    def merge(self, step: str, shard: int, level: int, data: bytes) -> None:
        """Put one delta in the place of those that `to_merge` has named."""
        with self._one_line_errors():
            self._begin()
            merged = self._level(step, shard, level)
            self._connection.executemany(
                "DELETE FROM deltas WHERE id = ?", [(number,) for number, _, _ in merged]
            )
            self._execute(
                "INSERT INTO deltas (step, shard, level, newest, data) VALUES (?, ?, ?, ?, ?)",
                (step, shard, level + 1, max(newest for _, _, newest in merged), data),
            )

    def drop(self, step: str, shard: int, before: int) -> None:
        """Drop the deltas of a shard that are older than `before` (event time, microseconds)."""
        with self._one_line_errors():
            self._begin()
            self._execute(
                "DELETE FROM deltas WHERE step = ? AND shard = ? AND newest < ?",
                (step, shard, before),
            )

    def _level(self, step: str, shard: int, level: int) -> list[tuple[int, bytes, int]]:
        rows = self._execute(
            "SELECT id, data, newest FROM deltas WHERE step = ? AND shard = ? AND level = ? "
            "AND newest < ? AND length(data) < ? ORDER BY id",
            (step, shard, level, FOREVER, _LARGE),
        )
        return list(rows)

    def _begin(self) -> None:
        if not self._connection.in_transaction:
            self._execute("BEGIN IMMEDIATE")

    def _about(self, name: str) -> str | None:
        row = self._execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def _execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        return self._connection.execute(statement, values)

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if type(error) is sqlite3.DatabaseError:
                # Not one of its subclasses: the file is no database, or has lost a part.
                raise FraudError(
                    f"{self.path}: the stream's state is damaged ({error}); "
                    "start anew with another --out",
                    Code.STATE_UNREADABLE,
                ) from None
            raise FraudError(
                f"{self.path}: the stream's state cannot be kept ({error})", Code.OUTPUT_UNWRITABLE
            ) from None


def about_topics(ids: Mapping[str, str]) -> dict[str, str]:
    """Name the topics of a stream among what `claim` records.

    A topic that was deleted and created again has its old name and a new id.

    Args:
      ids: names of topics to the ids that the brokers gave them.
    """
    return {f"{_TOPIC}{topic}": number for topic, number in ids.items()}


def refuse_created_again(name: str, place: str) -> None:
    """Refuse to go on in a topic whose id has changed: positions in the old one mean nothing.

    Args:
      name: the recorded name whose value has changed; nothing happens if it is not a topic's.
      place: where the state of the stream is, for the message.

    Raises:
      FraudError: it is a topic's.
    """
    if name.startswith(_TOPIC):
        raise FraudError(
            f"topic {name.removeprefix(_TOPIC)!r} was deleted and created again since the stream "
            f"in {place} began, whose positions would skip messages of the new topic; give "
            "another --out to read it, and --history FILE to fill the windows",
            Code.STREAM_CHANGED,
        )
