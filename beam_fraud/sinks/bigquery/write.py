"""Flagged transactions to BigQuery, by Beam's own transform."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import apache_beam as beam
import pyarrow as pa

from beam_fraud.sinks.bigquery.client import remove, temporary
from beam_fraud.sinks.bigquery.table import FIELDS, TableName, table_rows

_LOG = logging.getLogger(__name__)
#: Into how many parts rows are spread before they are inserted: few, so that calls are large.
_INSERTING = 4


@dataclass
class LoadIntoTable(beam.PTransform):
    """Rows to files in a bucket, and from there by load jobs into a table that is there.

    What a runner does again makes a file again, but loads none twice: jobs have fixed names.
    """

    #: Where to.
    table: TableName

    def expand(self, flagged: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[None]:
        """Rows, files, load jobs; only the files' names are shuffled.

        Raises:
          UsageError: no bucket is given for the files.
        """
        directory = f"{temporary(flagged.pipeline.options)}/{self.table.table}"
        write = _to(self.table, "FILE_LOADS", custom_gcs_temp_location=directory)
        written = flagged | "Rows" >> _Rows() | "Load" >> write
        return (
            written.destination_load_jobid_pairs
            | "Loaded" >> beam.Map(lambda _: (0, 0))
            # The jobs are told when they begin; what is grouped comes when they have ended.
            | "Ended" >> beam.GroupByKey()
            | "RemoveFiles" >> beam.Map(lambda _: remove(directory))
        )


@dataclass
class InsertIntoTable(beam.PTransform):
    """Rows into a table that is there, as they come; some may come twice.

    While BigQuery refuses, the rows wait and are tried again, with growing pauses.
    """

    #: Where to.
    table: TableName

    def expand(self, flagged: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[None]:
        """Rows, spread over a few keys, and inserted some hundreds at a time."""
        options = {"insert_retry_strategy": "RETRY_ALWAYS", "num_streaming_keys": _INSERTING}
        write = _to(self.table, "STREAMING_INSERTS", **options)
        written = flagged | "Rows" >> _Rows() | "Insert" >> write
        return written.failed_rows_with_errors | "Refused" >> beam.ParDo(_TellRefused(self.table))


def _to(table: TableName, method: str, **options: Any) -> beam.PTransform:
    from apache_beam.io.gcp.bigquery import WriteToBigQuery

    return WriteToBigQuery(
        table=table.table,
        dataset=table.dataset,
        project=table.project,
        schema={"fields": list(FIELDS)},
        create_disposition="CREATE_NEVER",
        write_disposition="WRITE_APPEND",
        method=method,
        **options,
    )


class _Rows(beam.PTransform):
    def expand(self, flagged: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[dict[str, Any]]:
        return flagged | beam.FlatMap(_rows).with_output_types(dict[str, Any])


def _rows(batch: pa.RecordBatch) -> Iterable[dict[str, object]]:
    return table_rows(batch, datetime.now(UTC))


class _TellRefused(beam.DoFn):
    """All else is tried again: a row that is larger than any call may be is only in the archive."""

    def __init__(self, table: TableName) -> None:
        self._table = str(table)

    def process(self, refused: tuple[Any, dict[str, object], Any]) -> None:
        _LOG.error("BigQuery table %s: a row is too large; it is in the scores only", self._table)
