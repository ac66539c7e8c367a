"""The BigQuery sinks of runs over files and of streams, and the erasure of their rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.sinks.base import ErasedRows, FlaggedSink, WriterSink
from beam_fraud.sinks.bigquery import tables
from beam_fraud.sinks.bigquery.client import connected, failed_load
from beam_fraud.sinks.bigquery.table import (
    TableName,
    accounts_of,
    condition,
    count_rows,
    delete_rows,
)

if TYPE_CHECKING:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions


@dataclass(frozen=True)
class BigQuerySink(FlaggedSink):
    """One row per transaction and model; the last run wins.

    The rows of a run are loaded into a staging table; one MERGE takes them when the run has
    succeeded: all or none, and repeating it changes nothing.
    """

    #: The table.
    table: TableName

    @property
    def retention(self) -> str:
        """BigQuery keeps deleted rows for a fortnight."""
        return (
            f"{self.describe()}: BigQuery keeps what is deleted for a fortnight (time travel, "
            "fail-safe)"
        )

    def erase(
        self, accounts: Sequence[str], before: datetime | None = None, *, dry_run: bool = False
    ) -> ErasedRows:
        """Delete rows from the table, that of streams and those of runs that were killed."""
        known = set() if before is not None else accounts_in(self.table, accounts)
        return ErasedRows(erase_rows(self.table, accounts, before, dry_run=dry_run), known)

    def check(self, *, going_on: bool = False) -> None:
        """Check that the dataset can be reached, its table is ours and jobs are allowed.

        Raises:
          FraudError: as `check_tables` and `check_jobs` say.
        """
        tables.check_tables(self.table)
        tables.check_jobs(self.table)

    def check_options(self, options: PipelineOptions) -> None:
        """Check that there is a bucket for the files that are loaded.

        Raises:
          UsageError: `--temp_location` names no bucket.
          FraudError: it cannot be reached.
        """
        from beam_fraud.sinks.bigquery.client import check_bucket

        check_bucket(options)

    def failure_in(self, error: BaseException) -> FraudError | None:
        """Return BigQuery's error of a failed load job."""
        return failed_load(self.table, error)

    def begin(self, run_id: str) -> None:
        """Create the table and the staging table of the run."""
        tables.make_for_run(self.table, run_id)

    def transform(
        self, run_id: str, connect: Callable[[WriterSink], beam.PTransform]
    ) -> beam.PTransform:
        """Beam's own, which loads rows into the table of the run."""
        from beam_fraud.sinks.bigquery.write import LoadIntoTable

        return LoadIntoTable(self.table.staging(run_id))

    def commit(self, run_id: str) -> None:
        """Merge the rows of the run into the table."""
        tables.merge_run(self.table, run_id)

    def discard(self, run_id: str) -> None:
        """Drop the staging table of the run."""
        tables.drop_run(self.table, run_id)

    def describe(self) -> str:
        return f"bigquery:{self.table}"

    def streaming(self, *, here: bool) -> BigQueryStreamSink:
        """Return the sink for a stream.

        Args:
          here: whether Beam's local runner runs the stream. Beam groups rows before it inserts
            them, and on the local runner that waits for the end of the stream.

        Raises:
          UsageError: the local runner runs it.
        """
        if here:
            raise UsageError(
                f"--sink {self.describe()}: a stream on this machine cannot write to BigQuery; "
                "give --runner FlinkRunner, PrismRunner or DataflowRunner, or another --sink",
                Code.SINK_UNSUITED,
            )
        return BigQueryStreamSink(self.table)


@dataclass(frozen=True)
class BigQueryStreamSink(FlaggedSink):
    """Rows of a stream, appended to a table.

    Each row is inserted at least once: a runner that repeats a bundle inserts its rows again. The
    view `latest_<table>` has every key once, of files and streams together.
    """

    #: The table of files; the names of the stream's table and of the view derive from it.
    table: TableName

    def check(self, *, going_on: bool = False) -> None:
        """Check that the dataset can be reached and its tables are ours.

        Raises:
          FraudError: as `check_tables` says.
        """
        tables.check_tables(self.table, self.table.stream)

    def begin(self, run_id: str) -> None:
        """Create the tables and the view."""
        tables.make_for_stream(self.table)

    def transform(
        self, run_id: str, connect: Callable[[WriterSink], beam.PTransform]
    ) -> beam.PTransform:
        """Beam's own, which inserts rows as they come."""
        from beam_fraud.sinks.bigquery.write import InsertIntoTable

        return InsertIntoTable(self.table.stream)

    def commit(self, run_id: str) -> None:
        """Do nothing: an inserted row is committed."""

    def discard(self, run_id: str) -> None:
        """Do nothing: inserted rows stay; a retry repeats them at most."""

    def describe(self) -> str:
        return f"bigquery:{self.table.stream}"

    def streaming(self, *, here: bool) -> BigQueryStreamSink:
        """Return the sink itself."""
        return self


def erase_rows(
    table: TableName,
    accounts: Sequence[str] = (),
    before: datetime | None = None,
    *,
    dry_run: bool = False,
) -> dict[str, int]:
    """Delete rows from the tables of files, of streams and of killed runs.

    BigQuery keeps deleted rows for time travel and fail-safe, two weeks in all.

    Args:
      table: table of the sink.
      accounts: accounts to erase; exclusive with `before`.
      before: event time, UTC, before which rows are deleted.
      dry_run: only count the rows.

    Returns:
      Table to number of rows, for the existing tables.

    Raises:
      FraudError: BigQuery fails or cannot be reached. It refuses if a stream inserted such rows in
        the last half hour; repeat later to delete the rest.
    """
    counts: dict[str, int] = {}
    with connected(table) as (client, calls):
        from google.cloud import bigquery

        of_whom: Any
        if before is None:
            of_whom = bigquery.ArrayQueryParameter("accounts", "STRING", list(accounts))
        else:
            of_whom = bigquery.ScalarQueryParameter("before", "TIMESTAMP", before)
        config = bigquery.QueryJobConfig(query_parameters=[of_whom])
        where = condition(accounts=before is None)
        names = (item.table_id for item in client.list_tables(table.dataset_id, **calls))
        for name in filter(table.holds, names):
            one = table.beside(name)
            statement = count_rows(one, where) if dry_run else delete_rows(one, where)
            job = client.query(statement, config, **calls)
            answer = job.result()
            counts[name] = next(iter(answer))[0] if dry_run else job.num_dml_affected_rows or 0
    return counts


def accounts_in(table: TableName, accounts: Sequence[str]) -> set[str]:
    """Return the accounts that have a row in one of the tables of `erase_rows`.

    Raises:
      FraudError: BigQuery fails or cannot be reached.
    """
    known: set[str] = set()
    with connected(table) as (client, calls):
        from google.cloud import bigquery

        of_whom = bigquery.ArrayQueryParameter("accounts", "STRING", list(accounts))
        config = bigquery.QueryJobConfig(query_parameters=[of_whom])
        names = (item.table_id for item in client.list_tables(table.dataset_id, **calls))
        for name in filter(table.holds, names):
            statement = accounts_of(table.beside(name), condition(accounts=True))
            known.update(row[0] for row in client.query(statement, config, **calls).result())
    return known
