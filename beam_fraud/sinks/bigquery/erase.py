"""Erase personal data from every table that the sink writes to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from beam_fraud.sinks.bigquery.client import connected
from beam_fraud.sinks.bigquery.table import (
    TableName,
    accounts_of,
    condition,
    count_rows,
    delete_rows,
)


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
