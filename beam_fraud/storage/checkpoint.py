"""Positions of the sources and the state of every shard in one SQLite file, changed atomically."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from beam_fraud.errors import Code, FraudError
from beam_fraud.monitoring.recorder import rows_counted
from beam_fraud.storage.atomic import make_directory
from beam_fraud.storage.database.sqlite_file import WriteBack, connect

_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (
  source TEXT PRIMARY KEY, position TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deltas (
  id INTEGER PRIMARY KEY, step TEXT NOT NULL, shard INTEGER NOT NULL, level INTEGER NOT NULL,
  newest INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS deltas_of_shard ON deltas (step, shard, level, id);
"""
#: Level of a delta that is not merged. Lower levels are of earlier versions, in which each merge
#: added a delta at the end; they are ordered by them, and not merged any more.
_NOT_MERGED = 100
#: Deltas of a shard in the order of their arrival.
_DELTAS = (
    "SELECT data FROM deltas WHERE step = ? AND shard = ? "
    "ORDER BY CASE WHEN level < 100 THEN -level ELSE 1 END, id"
)
#: Version of the file's layout, and that without merges in place, whose files become this one when
#: they are opened: a program of then would order the deltas wrongly. Others are refused.
_VERSION, _BEFORE = "2", "1"
#: Deltas of a level that are merged into one of the next.
_MERGED = 32
#: Size from which deltas are not merged: a merge is of 4 MiB at most, for rows wait for it.
_LARGE = (4 << 20) // _MERGED
#: `newest` of a delta that never expires; such deltas are not merged either.
FOREVER = (1 << 63) - 1
#: Prefix of a topic's name in the identity of a stream.
_TOPIC = "id of topic "
#: Open checkpoints of this process: the steps of a graph share one transaction.
_open: dict[Path, LocalCheckpoint] = {}


class LocalCheckpoint:
    """A file with all that a stream needs to resume, consistent as of one moment.

    The steps of a graph in one process add their state; `commit` makes it and the new positions
    durable in one transaction. If the process dies, the file stays as of the last commit, and the
    next process resumes there.

    For one process at a time, which `claim` ensures.
    """

    def __init__(self, path: Path, *, flushed: bool = False) -> None:
        """Open or create the file.

        Args:
          path: the file.
          flushed: whether a commit waits until the disk has it, so that no power failure reverts
            it.

        Raises:
          FraudError: it cannot be used.
        """
        self.path = path
        self._versions: dict[tuple[str, int], int] = {}
        self._failure: FraudError | None = None
        #: Rows of this process whose results are committed, since it was opened.
        self.rows, self._rows_before = 0, rows_counted()
        make_directory(path.parent)
        with self._one_line_errors():
            # Beam may run the steps in another thread than the one that opened the file.
            self._connection = connect(path)
            self._execute("PRAGMA journal_mode = WAL")
            # NORMAL: a power failure may revert the last commits, never a part of one.
            self._execute(f"PRAGMA synchronous = {'FULL' if flushed else 'NORMAL'}")
            self._write_back = WriteBack(path, self._connection)
            self._connection.executescript(_SCHEMA)
            version = self._about("version")
            if version is None:
                self._execute("INSERT INTO about VALUES ('version', ?)", (_VERSION,))
            elif version == _BEFORE:
                self._execute("UPDATE about SET value = ? WHERE name = 'version'", (_VERSION,))
            elif version != _VERSION:
                raise FraudError(
                    f"{path}: written by another version of this program; give another --out",
                    Code.STATE_UNREADABLE,
                )

    @classmethod
    def at(cls, path: Path) -> LocalCheckpoint:
        """Return the checkpoint of a file, shared within this process."""
        if path not in _open:
            _open[path] = cls(path)
        return _open[path]

    def close(self) -> None:
        """Roll uncommitted changes back and close the file."""
        _open.pop(self.path, None)
        self._write_back.close()
        self._connection.close()

    def claim(self, about: Mapping[str, str]) -> bool:
        """Record the identity of the stream, or check it against the recorded one.

        A recorded name that this call lacks stays.

        Args:
          about: name to value of settings that must not change for the life of the state.

        Returns:
          Whether there is state to resume from.

        Raises:
          FraudError: the state belongs to another stream.
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
                        "give another --out, or remove all of this one to start again",
                        Code.STREAM_CHANGED,
                    )
        return bool(self.positions())

    def note(self, name: str, value: str) -> None:
        """Record a value that may change; it is part of the next commit."""
        with self._one_line_errors():
            self._begin()
            self._execute(
                "INSERT INTO about VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                (name, value),
            )

    def knows(self, name: str) -> bool:
        """Return whether an earlier `claim` recorded that name."""
        return self.about(name) is not None

    def about(self, name: str) -> str | None:
        """Return the recorded value of a name."""
        with self._one_line_errors():
            return self._about(name)

    def positions(self) -> dict[str, str]:
        """Return the committed position of each source."""
        with self._one_line_errors():
            return dict(self._execute("SELECT source, position FROM positions").fetchall())

    def commit(self, positions: Mapping[str, str]) -> None:
        """Commit the state since the last commit, and the new positions.

        Sinks must be durable before this. A power failure may revert commits that are not flushed,
        and the stream then repeats their work; nothing is lost.

        Raises:
          FraudError: the file cannot be written; every later call raises it again.
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
                    # An idle stream writes nothing.
                    "WHERE position IS NOT excluded.position",
                    positions.items(),
                )
                self._execute("COMMIT")
            self._write_back.committed()
            self.rows = rows_counted() - self._rows_before
        except FraudError as error:
            # Beam only logs errors after a bundle, and continues.
            self._failure = error
            raise

    def roll_back(self) -> None:
        """Drop the changes since the last commit, and forget its failure."""
        self._failure = None
        with self._one_line_errors():
            if self._connection.in_transaction:
                self._execute("ROLLBACK")

    def refuse_failed(self) -> None:
        """Raise the error of an earlier `commit`."""
        if self._failure is not None:
            raise self._failure

    def deltas(self, step: str, shard: int) -> list[bytes]:
        """Return the deltas of a shard in order."""
        with self._one_line_errors():
            return [data for (data,) in self._execute(_DELTAS, (step, shard))]

    def stored(self, step: str, shard: int) -> list[bytes]:
        """Return the committed deltas of a shard in order, in any thread."""
        return recorded_deltas(self.path, step, shard)

    def shards(self, step: str) -> list[int]:
        """Return the shards of a step with state."""
        with self._one_line_errors():
            rows = self._execute("SELECT DISTINCT shard FROM deltas WHERE step = ?", (step,))
            return sorted(shard for (shard,) in rows)

    def version(self, step: str, shard: int) -> int:
        """Return a number that changes with the state of a shard in this process."""
        return self._versions.get((step, shard), 0)

    def keep(
        self, step: str, shard: int, deltas: Sequence[tuple[bytes, int]], *, replaces: bool = False
    ) -> None:
        """Add deltas (data and newest event time) to a shard, or replace all."""
        with self._one_line_errors():
            self._begin()
            if replaces:
                self._execute("DELETE FROM deltas WHERE step = ? AND shard = ?", (step, shard))
            self._connection.executemany(
                "INSERT INTO deltas (step, shard, level, newest, data) VALUES (?, ?, ?, ?, ?)",
                [(step, shard, _NOT_MERGED, newest, data) for data, newest in deltas],
            )
        self._write_back.changed(sum(len(data) for data, _ in deltas))
        self._versions[step, shard] = self.version(step, shard) + 1

    def to_merge(self, step: str, shard: int) -> list[tuple[int, list[bytes]]]:
        """Return runs of small deltas of a shard that are long enough to merge.

        A run is of one level and without a large delta in between, so that a merge changes no
        order: labels of a transaction, for one, are in effect as they arrived.

        Returns:
          The number of the last delta of each run, and the data of all of its oldest ones.
        """
        mergeable = list[tuple[int, list[bytes]]]()
        with self._one_line_errors():
            deltas = self._execute(
                "SELECT id, level, length(data) < ? FROM deltas WHERE step = ? AND shard = ? "
                "AND newest < ? AND level >= ? ORDER BY id",
                (_LARGE, step, shard, FOREVER, _NOT_MERGED),
            )
            for (_, small), run in groupby(deltas.fetchall(), lambda delta: delta[1:]):
                oldest = [number for number, *_ in islice(run, _MERGED)]
                if small and len(oldest) == _MERGED:
                    run_data = [data for _, data, _ in self._run(step, shard, oldest[-1])]
                    mergeable.append((oldest[-1], run_data))
        return mergeable

    def merge(self, step: str, shard: int, last: int, data: bytes) -> None:
        """Replace a run of `to_merge` by one delta of the next level, in its place.

        Args:
          step: the step.
          shard: the shard.
          last: number of the run's last delta.
          data: the merged delta.
        """
        with self._one_line_errors():
            self._begin()
            run = self._run(step, shard, last)
            (level,) = self._execute("SELECT level FROM deltas WHERE id = ?", (last,)).fetchone()
            self._connection.executemany(
                "DELETE FROM deltas WHERE id = ?", [(number,) for number, _, _ in run]
            )
            self._execute(
                "INSERT INTO deltas (id, step, shard, level, newest, data) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (last, step, shard, level + 1, max(newest for _, _, newest in run), data),
            )
        self._write_back.changed(len(data))

    def drop(self, step: str, shard: int, before: int) -> None:
        """Drop the deltas of a shard older than `before` (event time, microseconds)."""
        with self._one_line_errors():
            self._begin()
            self._execute(
                "DELETE FROM deltas WHERE step = ? AND shard = ? AND newest < ?",
                (step, shard, before),
            )

    def _run(self, step: str, shard: int, last: int) -> list[tuple[int, bytes, int]]:
        """Return number, data and newest time of the deltas of a run of `to_merge`, in order."""
        rows = self._execute(
            "SELECT id, data, newest FROM deltas WHERE step = ? AND shard = ? "
            "AND level = (SELECT level FROM deltas WHERE id = ?) AND id <= ? "
            "AND newest < ? ORDER BY id DESC LIMIT ?",
            (step, shard, last, last, FOREVER, _MERGED),
        )
        return list(reversed(rows.fetchall()))

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
                # Not a subclass: the file is no database, or is damaged.
                raise FraudError(
                    f"{self.path}: the stream's state is damaged ({error}); "
                    "start again with another --out",
                    Code.STATE_UNREADABLE,
                ) from None
            raise FraudError(
                f"{self.path}: the stream's state cannot be written ({error})",
                Code.OUTPUT_UNWRITABLE,
            ) from None


def recorded_about(path: Path) -> dict[str, str]:
    """Return what a file recorded, by name, and its positions; it is not changed.

    Returns:
      Empty if there is no file.

    Raises:
      FraudError: it is damaged.
    """
    query = "SELECT name, value FROM about UNION ALL SELECT source, position FROM positions"
    return dict(_recorded(path, query, ()))


def recorded_deltas(path: Path, step: str, shard: int) -> list[bytes]:
    """Return the committed deltas of a shard in order, in any thread and process.

    Returns:
      Empty if there is no file.

    Raises:
      FraudError: it is damaged.
    """
    return [data for (data,) in _recorded(path, _DELTAS, (step, shard))]


def _recorded(path: Path, query: str, values: Sequence[object]) -> list[Any]:
    if not path.exists():
        return []
    try:
        with closing(connect(path)) as connection:
            return connection.execute(query, values).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            # They are not there yet.
            return []
        raise FraudError(f"{path}: cannot be read ({error})", Code.STATE_UNREADABLE) from None
    except sqlite3.Error as error:
        raise FraudError(
            f"{path}: the stream's state is damaged ({error}); start again with another --out",
            Code.STATE_UNREADABLE,
        ) from None


def about_topics(ids: Mapping[str, str]) -> dict[str, str]:
    """Return the topics of a stream in the form of `claim`.

    A recreated topic has its old name and a new id.

    Args:
      ids: names of topics to the brokers' ids.
    """
    return {f"{_TOPIC}{topic}": number for topic, number in ids.items()}


def refuse_created_again(name: str, place: str) -> None:
    """Refuse to resume in a recreated topic, in which old positions mean nothing.

    Args:
      name: the recorded name whose value has changed; ignored unless it is a topic's.
      place: place of the state, for the message.

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
