"""Stage the dead letters of a replay on disk, sorted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.operations.dead_letters.repaired import Repaired
from beam_fraud.operations.dead_letters.store import KEY, Choice, DeadLetters
from beam_fraud.sources.replayed import TABLES, is_csv_source
from beam_fraud.storage.database.sqlite_file import IntegrityError, reading, writing

#: Mark of a truncated record in its detail (`sources.text`).
_CUT_OFF = "record too long; its beginning is kept"
_KEYS_AT_A_TIME = 10_000
_OWN_TABLES = """
    CREATE TABLE repaired (
        source TEXT, position INTEGER, payload BLOB, line INTEGER, PRIMARY KEY (source, position)
    );
    CREATE TABLE letters (
        source TEXT, position INTEGER, replayed INTEGER, PRIMARY KEY (source, position)
    );
    CREATE TABLE dead_again (source TEXT, position INTEGER, PRIMARY KEY (source, position));
"""


@dataclass(frozen=True)
class StagedCounts:
    """Counts of the chosen dead letters."""

    #: Replayed.
    offered: int
    #: Skipped: replayed before.
    replayed: int
    #: Skipped: the record is missing or truncated.
    incomplete: int


@dataclass(frozen=True)
class StagedReplay:
    """A file for `sources.replayed`; every method reopens it."""

    #: The file, which ends in `.replay`.
    path: Path

    def take(self, letters: DeadLetters, choice: Choice, limit: int | None) -> StagedCounts:
        """Stage the unchanged records of the chosen dead letters.

        Raises:
          FraudError: the dead letters cannot be read.
        """
        offered = replayed = incomplete = 0
        with writing(self.path) as connection:
            for batch in letters.read(choice):
                rows = []
                for row in batch.to_pylist():
                    whole = row["payload"] and not (row["detail"] or "").endswith(_CUT_OFF)
                    if row["replayed"]:
                        replayed += 1
                    elif not whole or row["reason"] == "unreadable_file":
                        incomplete += 1
                    elif limit is None or offered < limit:
                        offered += 1
                        rows.append((row["source"], row["position"], row["payload"]))
                connection.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", rows)
            (offered,) = connection.execute("SELECT count(*) FROM records").fetchone()
        return StagedCounts(offered, replayed, incomplete)

    def take_repaired(
        self, file: Path, repaired: Iterable[Repaired], letters: DeadLetters, limit: int | None
    ) -> StagedCounts:
        """Stage repaired records in place of dead letters.

        Args:
          file: the repaired file, for messages.
          repaired: its records.
          letters: the original dead letters.
          limit: maximum of records.

        Raises:
          FraudError: a record is repeated, or is none of `letters`.
        """
        with writing(self.path) as connection:
            for record in repaired:
                try:
                    connection.execute(
                        "INSERT INTO repaired VALUES (?, ?, ?, ?)",
                        (record.source, record.position, record.payload, record.line),
                    )
                except IntegrityError:
                    raise FraudError(
                        f"--from {file}: line {record.line}: an earlier line has the same source "
                        "and position; leave one of them",
                        Code.REPAIRED_INVALID,
                    ) from None
            for batch in letters.read(Choice(), payloads=False):
                columns = (batch.column(name).to_pylist() for name in (*KEY.names, "replayed"))
                keys = zip(*columns, strict=True)
                connection.executemany("INSERT OR REPLACE INTO letters VALUES (?, ?, ?)", keys)
            (strange,) = connection.execute(
                "SELECT min(line) FROM repaired LEFT JOIN letters USING (source, position) "
                "WHERE replayed IS NULL"
            ).fetchone()
            if strange is not None:
                raise FraudError(
                    f"--from {file}: line {strange}: no dead letter in {letters.describe()} has "
                    "this source and position; keep both as they were exported",
                    Code.REPAIRED_INVALID,
                )
            (replayed,) = connection.execute(
                "SELECT count(*) FROM repaired JOIN letters USING (source, position) WHERE replayed"
            ).fetchone()
            offered = connection.execute(
                "INSERT INTO records SELECT source, position, payload FROM repaired "
                "JOIN letters USING (source, position) WHERE NOT replayed ORDER BY line LIMIT ?",
                (-1 if limit is None else limit,),
            ).rowcount
            connection.execute("DELETE FROM repaired")
        return StagedCounts(offered, replayed, 0)

    def name_sources(self, own_header: str | None, noted: Mapping[str, str]) -> None:
        """Set the format of each source's records: once, after staging.

        Args:
          own_header: the CSV header of every source.
          noted: stored headers by source.

        Raises:
          UsageError: records are CSV without a known header.
        """
        with writing(self.path) as connection:
            for source, rows in connection.execute(
                "SELECT source, count(*) FROM records GROUP BY source"
            ).fetchall():
                header = (own_header or noted.get(source)) if is_csv_source(source) else None
                if header is None and is_csv_source(source):
                    raise UsageError(
                        f"{source}: its dead letters are lines of CSV whose columns are not known "
                        "here; give --header with the file that they came from, or its first line",
                        Code.CSV_COLUMNS_UNKNOWN,
                    )
                connection.execute("INSERT INTO sources VALUES (?, ?, ?)", (source, header, rows))

    def sources(self) -> list[str]:
        """Return the sources of all staged records."""
        with reading(self.path) as connection:
            return [source for (source,) in connection.execute("SELECT source FROM sources")]

    def payloads(self) -> Iterator[bytes]:
        """Yield all staged records, by source and position."""
        query = "SELECT payload FROM records ORDER BY source, position"
        with reading(self.path) as connection:
            for (payload,) in connection.execute(query):
                yield payload

    def forget_dead(self, dead: Iterable[pa.RecordBatch]) -> None:
        """Record which ones died again: rows with the columns of `KEY`."""
        with writing(self.path) as connection:
            for batch in dead:
                keys = zip(*(batch.column(name).to_pylist() for name in KEY.names), strict=True)
                connection.executemany("INSERT OR IGNORE INTO dead_again VALUES (?, ?)", keys)

    def settled(self) -> Iterator[pa.RecordBatch]:
        """Yield the keys (`KEY`) of records that did not die again."""
        with reading(self.path) as connection:
            result = connection.execute(
                "SELECT source, position FROM records "
                "EXCEPT SELECT source, position FROM dead_again ORDER BY 1, 2"
            )
            while keys := result.fetchmany(_KEYS_AT_A_TIME):
                sources, positions = zip(*keys, strict=True)
                yield pa.RecordBatch.from_arrays(
                    [pa.array(sources, pa.string()), pa.array(positions, pa.int64())], schema=KEY
                )

    def create(self) -> None:
        """Create the file."""
        with writing(self.path) as connection:
            connection.executescript(TABLES + _OWN_TABLES)
