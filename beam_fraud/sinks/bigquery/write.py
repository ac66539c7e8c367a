"""Write flagged transactions to BigQuery by Beam's own transform."""

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
#: Number of keys that rows are spread over before insertion: few, so that calls are large.
_INSERTING = 4


@dataclass
class LoadIntoTable(beam.PTransform):
    """Write rows to files in a bucket, and load them into an existing table.

    A repeated bundle writes its file again, but no file is loaded twice: jobs have fixed names.
    """

    #: The table.
    table: TableName

    def expand(self, flagged: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[None]:
        """Write files, then start load jobs; only file names are shuffled.

        Raises:
          UsageError: no bucket is configured for the files.
        """
        directory = f"{temporary(flagged.pipeline.options)}/{self.table.table}"
        write = _to(self.table, "FILE_LOADS", custom_gcs_temp_location=directory)
        written = flagged | "Rows" >> _Rows() | "Load" >> write
        return (
            written.destination_load_jobid_pairs
            | "Loaded" >> beam.Map(lambda _: (0, 0))
            # The transform emits jobs when they start; the grouped output arrives when they have
            # ended.
            | "Ended" >> beam.GroupByKey()
            | "RemoveFiles" >> beam.Map(lambda _: remove(directory))
        )


@dataclass
class InsertIntoTable(beam.PTransform):
    """Insert rows into an existing table at once; rows may repeat.

    While BigQuery fails, rows wait and are retried with growing pauses.
    """

    #: The table.
    table: TableName

    def expand(self, flagged: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[None]:
        """Spread rows over a few keys and insert some hundreds at a time."""
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
    """Log rows that no call can take; every other error is retried.

    Such a row, larger than the limit of a call, is in the archive alone.
    """

    def __init__(self, table: TableName) -> None:
        self._table = str(table)

    def process(self, refused: tuple[Any, dict[str, object], Any]) -> None:
        _LOG.error("BigQuery table %s: a row is too large; it is in the scores only", self._table)
