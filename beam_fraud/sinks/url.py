"""A sink as the user writes it: `--sink URL`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from beam_fraud.errors import UsageError
from beam_fraud.sinks.base import FlaggedSink
from beam_fraud.sinks.bigquery.sink import BigQuerySink
from beam_fraud.sinks.bigquery.table import FORM, TableName
from beam_fraud.sinks.connection import sqlite_url
from beam_fraud.sinks.database import DatabaseSink
from beam_fraud.sinks.parquet import ParquetSink
from beam_fraud.urls import absolute, local_path, split_scheme

_FORMS = {"sqlite": "sqlite:///FILE", "parquet": "parquet:DIR", "bigquery": FORM}


def parse_sink(url: str) -> FlaggedSink:
    """The sink that `url` names; nothing is touched yet.

    Example:
      >>> parse_sink("parquet:/data/flagged").describe()
      'parquet:/data/flagged'

    Raises:
      UsageError: the scheme is unknown, or no file or table is named.
    """
    scheme, rest = split_scheme("--sink", url, _FORMS)
    if scheme == "parquet":
        return ParquetSink(local_path("--sink", rest, _FORMS[scheme]))
    if scheme == "bigquery":
        return BigQuerySink(TableName.parse(rest))
    if not rest.startswith("///") or len(rest) == 3 or "?" in rest:
        raise UsageError(f"--sink: no file given, or options after it; write {_FORMS[scheme]}")
    return DatabaseSink(sqlite_url(absolute(Path(unquote(rest[3:])))))
