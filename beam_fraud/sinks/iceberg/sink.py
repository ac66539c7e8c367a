"""The sink of flagged rows for an Iceberg table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from beam_fraud.errors import Code, UsageError
from beam_fraud.sinks.base import ErasedRows, WriterSink
from beam_fraud.sinks.iceberg.run import IcebergRun
from beam_fraud.sinks.parquet import PARTS, ParquetSinkWriter
from beam_fraud.storage.staging import Staging
from beam_fraud.storage.urls import Place


@dataclass(frozen=True)
class IcebergSink(WriterSink):
    """Flagged rows, which wait in Parquet parts under `--out` until one commit takes them."""

    #: The table, and which of its rows are the run's.
    rows: IcebergRun

    @property
    def disk(self) -> Path | None:
        """The directory of the parts, which every worker writes to."""
        return None if self.rows.out is None else self.rows.work

    @property
    def retention(self) -> str:
        """Iceberg keeps deleted rows in older snapshots."""
        return f"{self.describe()}: its older snapshots keep what is deleted until they expire"

    def for_run(self, out: Path | str) -> IcebergSink:
        """Return the sink of a run with this `--out`."""
        return IcebergSink(self.rows.for_run(out))

    def holds_rows(self) -> bool:
        """Return whether the table has rows of an earlier run with this `run_output`."""
        return self.rows.holds_rows()

    def streaming(self, *, here: bool) -> NoReturn:
        """Refuse streams: each of their many small commits would be a snapshot.

        Raises:
          UsageError: always.
        """
        raise UsageError(
            f"--sink {self.describe()}: takes batches only, because every bundle of a stream would "
            "be a snapshot of the table; give another --sink",
            Code.SINK_UNSUITED,
        )

    def check(self, *, going_on: bool = False) -> None:
        """Check the catalogue and the table.

        Raises:
          FraudError: as `IcebergTable.check`.
        """
        self.rows.check()

    def begin(self, run_id: str) -> None:
        """Create a missing table, and the directory of the run's parts."""
        self.rows.begin(run_id)

    def open(self, run_id: str) -> ParquetSinkWriter:
        """Return a writer of one part."""
        return ParquetSinkWriter(Staging(self.rows.work, run_id), self.rows.failure)

    def commit(self, run_id: str) -> None:
        """Replace the rows of the last run with this `run_output` by those of the parts."""
        staged = Staging(self.rows.work, run_id).path
        self.rows.replace(run_id, map(Place.at, sorted(staged.glob(PARTS))))

    def discard(self, run_id: str) -> None:
        """Remove the parts, and what a failed commit has copied."""
        self.rows.discard(run_id)

    def describe(self) -> str:
        return self.rows.describe()

    def erase(
        self, accounts: Sequence[str], before: datetime | None = None, *, dry_run: bool = False
    ) -> ErasedRows:
        """Delete rows of all runs from the table."""
        return self.rows.table.erase(accounts, before, dry_run=dry_run)
