"""Replace the rows of a run in an Iceberg table: copy its files there, then commit them at once."""

from __future__ import annotations

import logging
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from beam_fraud.errors import Code, FraudError, UsageError, fix_of
from beam_fraud.sinks.iceberg.table import RUN_OUTPUT, IcebergTable, conflict_types, shown
from beam_fraud.sources.filesystem import open_file
from beam_fraud.storage.atomic import make_directory
from beam_fraud.storage.lock import locked_directory
from beam_fraud.storage.parquet_writer import ParquetBlockWriter
from beam_fraud.storage.staging import UNCOMMITTED, Staging, abandoned
from beam_fraud.storage.urls import Place
from beam_fraud.wording import reason_of

_LOG = logging.getLogger(__name__)
#: Form of the URL, for messages.
FORM = "iceberg:[CATALOG/]NAMESPACE.TABLE[?run=NAME]"
#: Property of a snapshot: the run that committed it.
_RUN_ID = "beam-fraud.run-id"
#: File in a run's staging with the id of the table, then its files in the table's place, a line
#: each.
_COPIED = "copied"
#: Rows of a file there.
_FILE_ROWS = 4_000_000
#: Rows of a batch on the way.
_BATCH_ROWS = 50_000


@dataclass(frozen=True)
class IcebergRun:
    """The rows of a run in a table, which replace those of the last run with their `run_output`.

    The launcher calls `for_run`, `check` and `begin`, then `replace` or `discard`. Nothing of it
    needs the workers.
    """

    #: The table.
    table: IcebergTable
    #: What `run_output` says instead of `--out`, or None.
    named: str | None = None
    #: `--out`, absolute, or its URL; None before `for_run`.
    out: Path | str | None = None

    @classmethod
    def parse(cls, option: str, rest: str) -> IcebergRun:
        """Parse a URL without its scheme.

        Raises:
          UsageError: it has another form. The message does not repeat it: it may hold a password.
        """
        place, mark, query = rest.partition("?")
        catalog, slash, name = place.rpartition("/")
        key, _, named = query.partition("=")
        parts = name.split(".")
        if (
            len(parts) < 2
            or not all(parts)
            or (slash and not catalog)
            or not set(catalog).isdisjoint("/:@")
            or (mark and not (key == "run" and named))
        ):
            raise UsageError(
                f"{option}: no namespace and table given, or other options; write {FORM}",
                Code.SINK_URL,
            )
        return cls(IcebergTable(option, name, catalog or None), unquote(named) or None)

    @property
    def run_output(self) -> str:
        """The value of that column in the rows of the run."""
        return self.named or str(self.out)

    @property
    def work(self) -> Path:
        """Directory of what runs keep until their commit: one for each table and `run_output`."""
        assert self.out is not None, "`for_run` comes first"
        rows = sha256(f"{self.table.option} {self.table} {self.run_output}".encode()).hexdigest()
        if isinstance(self.out, Path):
            return self.out / f"{UNCOMMITTED}{rows[:16]}"
        return Path(tempfile.gettempdir()) / f"beam-fraud{UNCOMMITTED}{rows[:16]}"

    def describe(self) -> str:
        """Return the table, and the name of the run, for messages."""
        return f"{self.table}?run={self.named}" if self.named else str(self.table)

    def for_run(self, out: Path | str) -> IcebergRun:
        """Return the rows of a run with this `--out`."""
        return replace(self, out=out)

    def check(self) -> None:
        """Check the catalogue and the table; as `IcebergTable.check`."""
        self.table.check()

    def holds_rows(self) -> bool:
        """Return whether the table has rows with this `run_output`."""
        with self.table.connected() as catalog:
            table = self.table.find(catalog)
            return table is not None and bool(self.table.files_of(table, self.run_output))

    def begin(self, run_id: str) -> None:
        """Create a missing table or columns; remove what killed runs have copied for nothing.

        Raises:
          FraudError: the catalogue or the file system of `--out` refuses.
        """
        with self.table.connected() as catalog:
            self.table.create(catalog)
            make_directory(self.work)
            try:
                if not isinstance(self.out, Path):
                    # In a directory that others use too.
                    self.work.chmod(0o700)
                with locked_directory(self.work):
                    for staging in abandoned(self.work):
                        self._settle(staging, catalog)
                    Staging(self.work, run_id).claim()
            except OSError as error:
                raise self.failure(error) from None

    def replace(self, run_id: str, parts: Iterable[Place]) -> None:
        """Replace the rows of the last run with this `run_output`, in one commit.

        Args:
          run_id: the run, which has begun.
          parts: its Parquet files of the schema `stages.SCORED`.

        Raises:
          FraudError: the table is as it was, unless the message says that this is unknown.
        """
        staging = Staging(self.work, run_id)
        with self.table.connected() as catalog:
            table = catalog.load_table(self.table.name)
            self.table.check_columns(table)
            columns = table.schema().as_arrow()
            try:
                copied = _copy(table, columns, _rows(parts, columns, self.run_output), staging)
            except OSError as error:
                raise FraudError(
                    f"{self.table.option} {self.table}: a file of the table cannot be written "
                    f"({reason_of(error)}); {fix_of(error)}",
                    Code.OUTPUT_UNWRITABLE,
                ) from None
            self.table.change(catalog, lambda table: self._commit(table, copied, staging))
        staging.remove()
        self._tidy()

    def discard(self, run_id: str) -> None:
        """Remove what a failed run has copied; do nothing after `replace`."""
        staging = Staging(self.work, run_id)
        if not staging.ready and staging.path.exists():
            try:
                with self.table.connected() as catalog:
                    self._settle(staging, catalog)
            except FraudError as error:
                _LOG.warning("the next run removes the copied files of this one: %s", error)
        staging.release()
        self._tidy()

    def failure(self, error: OSError) -> FraudError:
        """Return an error of the file system of `--out` as one line."""
        return FraudError(
            f"{self.table.option} {self.table}: {self.work} cannot be written ({reason_of(error)})",
            Code.OUTPUT_UNWRITABLE,
        )

    def _commit(self, table: Any, copied: list[str], staging: Staging) -> None:
        from pyiceberg.expressions import EqualTo

        changes, note = table.transaction(), {_RUN_ID: staging.run_id}
        changes.delete(EqualTo(RUN_OUTPUT, self.run_output), snapshot_properties=note)
        if copied:
            changes.add_files(copied, snapshot_properties=note, check_duplicate_files=False)
        try:
            changes.commit_transaction()
        except conflict_types():
            raise
        except Exception as error:
            # The table may have the files, or get them yet: the next run knows.
            staging.mark_ready()
            raise FraudError(
                f"{self.table.option} {self.table}: the commit was not answered ({shown(error)}), "
                "so it is unknown whether the table has the rows; run again, which replaces them",
                Code.ICEBERG_COMMIT,
            ) from None

    def _settle(self, staging: Staging, catalog: Any) -> None:
        """Remove the copied files of a run, unless the table has taken them."""
        note = staging.path / _COPIED
        known, *copied = (note.read_text() if note.exists() else "").splitlines() or [""]
        table = self.table.find(catalog) if copied else None
        # Only the table itself tells what it has taken, and none that has its name since.
        if (
            table is not None
            and str(table.metadata.table_uuid) == known
            and not self._landed(table, staging.run_id, copied)
        ):
            for place in copied:
                with suppress(FileNotFoundError):
                    table.io.delete(place)
        staging.remove()

    def _landed(self, table: Any, run_id: str, copied: list[str]) -> bool:
        summaries = (snapshot.summary for snapshot in table.snapshots())
        if any(summary is not None and summary[_RUN_ID] == run_id for summary in summaries):
            return True
        return not self.table.files_of(table, self.run_output).isdisjoint(copied)

    def _tidy(self) -> None:
        # What is not empty is of another run, or for the next.
        with suppress(OSError):
            self.work.rmdir()


def _copy(
    table: Any, columns: pa.Schema, rows: Iterator[pa.RecordBatch], staging: Staging
) -> list[str]:
    """Write rows to new files in a table's place, which it does not know yet; return those."""
    copied: list[str] = []
    batch = next(rows, None)
    with (staging.path / _COPIED).open("w") as note:
        print(table.metadata.table_uuid, file=note)
        while batch is not None:
            name = f"{staging.run_id}-{uuid.uuid4().hex[:12]}.parquet"
            place = table.location_provider().new_data_location(name)
            # Noted before it exists: the next run removes what this one leaves.
            print(place, file=note, flush=True)
            copied.append(place)
            with table.io.new_output(place).create() as stream:
                writer, written = ParquetBlockWriter(stream, columns), 0
                try:
                    while batch is not None and written < _FILE_ROWS:
                        writer.write(batch)
                        written += len(batch)
                        batch = next(rows, None)
                    writer.close()
                except BaseException:
                    writer.give_up()
                    raise
    return copied


def _rows(parts: Iterable[Place], columns: pa.Schema, run: str) -> Iterator[pa.RecordBatch]:
    """Yield the rows of files with the name of their run, in the columns of a table."""
    for part in parts:
        with open_file(part) as source, pq.ParquetFile(source) as file:
            for batch in file.iter_batches(_BATCH_ROWS):
                of_run = pa.repeat(pa.scalar(run), len(batch))
                rows = pa.Table.from_batches([batch]).append_column(RUN_OUTPUT, of_run)
                yield from rows.select(columns.names).cast(columns).combine_chunks().to_batches()
