"""Check, create, merge and drop the tables of a dataset; for the launcher alone."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.stages import LATER_COLUMNS
from beam_fraud.sinks.bigquery.client import connected
from beam_fraud.sinks.bigquery.table import (
    CLUSTERED_BY,
    FIELDS,
    PARTITIONED_BY,
    TableName,
    latest,
    merge,
)

_LOG = logging.getLogger(__name__)
#: Time limit of a check in seconds.
_CHECK_PATIENCE = 30.0
#: Lifetime of a staging table, after which BigQuery drops a killed run's.
_STAGING_LIFETIME = timedelta(days=7)


def check_tables(table: TableName, *others: TableName) -> None:
    """Check that the dataset exists and that its tables, if any, are ours.

    Raises:
      FraudError: the library, the credentials or the dataset are missing, or a table has other
        columns than this version writes.
    """
    with connected(table, _CHECK_PATIENCE) as (client, calls):
        from google.api_core.exceptions import NotFound

        try:
            client.get_dataset(table.dataset_id, **calls)
        except NotFound:
            raise FraudError(
                f"--sink bigquery:{table}: no dataset {table.dataset} in the project; "
                f"make it with: bq mk --dataset {table.project}:{table.dataset}",
                Code.BIGQUERY_TABLE,
            ) from None
        for name in (table, *others):
            try:
                _check_fields(name, client.get_table(str(name), **calls))
            except NotFound:
                continue


def check_jobs(table: TableName) -> None:
    """Check by a dry run that this login may run jobs, which load and merge.

    Raises:
      FraudError: jobs are not allowed, or BigQuery cannot be reached.
    """
    with connected(table, _CHECK_PATIENCE) as (client, calls):
        from google.cloud import bigquery

        client.query("SELECT 1", bigquery.QueryJobConfig(dry_run=True), **calls)


def make_table(client: Any, calls: dict[str, Any], table: TableName, **options: Any) -> None:
    """Create a table; add what one of an earlier version lacks.

    Args:
      client: the client of `connected`.
      calls: the arguments to pass to each call.
      table: its name.
      options: attributes of the library's `Table`, such as `expires`.
    """
    from google.cloud import bigquery

    fields = [bigquery.SchemaField.from_api_repr(field) for field in FIELDS]
    created = bigquery.Table(str(table), schema=fields)
    created.time_partitioning = bigquery.TimePartitioning(field=PARTITIONED_BY)
    created.clustering_fields = list(CLUSTERED_BY)
    for name, value in options.items():
        setattr(created, name, value)
    there = client.create_table(created, exists_ok=True, **calls)
    known = {field.name for field in there.schema}
    later = [field for field in fields if field.name in LATER_COLUMNS and field.name not in known]
    if later:
        there.schema = [*there.schema, *later]
        client.update_table(there, ["schema"], **calls)


def make_for_run(table: TableName, run_id: str) -> None:
    """Create the table and the staging table of a run."""
    expires = datetime.now(UTC) + _STAGING_LIFETIME
    with connected(table) as (client, calls):
        make_table(client, calls, table)
        make_table(client, calls, table.staging(run_id), expires=expires)


def make_for_stream(table: TableName) -> None:
    """Create the table, the stream's table and the view of both."""
    with connected(table) as (client, calls):
        from google.cloud import bigquery

        make_table(client, calls, table)
        make_table(client, calls, table.stream)
        view = bigquery.Table(str(table.latest))
        view.view_query = latest(table)
        there = client.create_table(view, exists_ok=True, **calls)
        if there.view_query != view.view_query:
            # Of an earlier version.
            there.view_query = view.view_query
            client.update_table(there, ["view_query"], **calls)


def merge_run(table: TableName, run_id: str) -> None:
    """Merge the staging table of a run by one statement, and drop it."""
    staging = table.staging(run_id)
    with connected(table) as (client, calls):
        client.query(merge(table, staging), **calls).result()
    drop_run(table, run_id)


def drop_run(table: TableName, run_id: str) -> None:
    """Drop the staging table of a run; on failure, BigQuery drops it after a week."""
    staging = table.staging(run_id)
    try:
        with connected(table, _CHECK_PATIENCE) as (client, calls):
            client.delete_table(str(staging), not_found_ok=True, **calls)
    except FraudError as error:
        _LOG.warning("%s; %s expires by itself", error, staging)


def _check_fields(name: TableName, there: Any) -> None:
    types = {field.name: (field.field_type, field.mode) for field in there.schema}
    for field in FIELDS:
        kind, mode = types.get(field["name"], (None, None))
        if kind is None and field["name"] in LATER_COLUMNS:
            # Of an earlier version: `make_table` adds it.
            continue
        if kind is None:
            wrong = f"lacks the column {field['name']!r}"
        elif (kind, mode == "REPEATED") != (field["type"], field["mode"] == "REPEATED"):
            wrong = f"has the column {field['name']!r} as {mode} {kind}"
        else:
            continue
        raise FraudError(
            f"--sink bigquery:{name}: {wrong}; name another table or drop it", Code.BIGQUERY_TABLE
        )
