"""Parse a sink, `--sink URL`, or an archive of scores, `--archive URL`."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote

from beam_fraud.errors import Code, UsageError
from beam_fraud.sinks.base import FlaggedSink
from beam_fraud.sinks.bigquery.sink import BigQuerySink
from beam_fraud.sinks.bigquery.table import FORM, TableName
from beam_fraud.sinks.database import DatabaseSink
from beam_fraud.sinks.iceberg.run import FORM as ICEBERG_FORM
from beam_fraud.sinks.iceberg.run import IcebergRun
from beam_fraud.sinks.iceberg.sink import IcebergSink
from beam_fraud.sinks.parquet import ParquetSink
from beam_fraud.storage.database.connection import sqlite_url
from beam_fraud.storage.database.url import FILE_OPTIONS, parse
from beam_fraud.storage.urls import absolute, local_path, split_scheme

_FORMS = {
    "sqlite": "sqlite:///FILE",
    "postgresql": "postgresql://USER@HOST/DATABASE",
    "parquet": "parquet:DIR",
    "bigquery": FORM,
    "iceberg": ICEBERG_FORM,
    "env": "env:NAME",
}
_DATABASES = {scheme: _FORMS[scheme] for scheme in ("sqlite", "postgresql", "env")}


def parse_sink(url: str, option: str = "--sink", *, databases: bool = False) -> FlaggedSink:
    """Return the sink that `url` names, without opening it.

    `env:NAME` reads the URL from an environment variable. Workers read a PostgreSQL URL from their
    own environment, so that no password is sent to them. Errors name the option.

    Args:
      url: the sink.
      option: its option.
      databases: whether the option takes databases alone: the error of an unknown scheme names no
        other sink. The caller refuses those.

    Example:
      >>> parse_sink("parquet:/data/flagged").describe()
      'parquet:/data/flagged'

    Raises:
      UsageError: the scheme is unknown, or the file or table is missing.
    """
    other = databases and url.partition(":")[0] not in _FORMS
    scheme, rest = split_scheme(option, url, _DATABASES if other else _FORMS)
    if scheme == "env":
        held = os.environ.get(rest, "")
        if not held:
            raise UsageError(f"{option} {url}: the variable {rest} is not set", Code.VARIABLE_UNSET)
        if held.startswith("env:"):
            raise UsageError(
                f"{option} {url}: the variable {rest} names another one; give that", Code.SINK_URL
            )
        sink = parse_sink(held, option, databases=databases)
        server = held.startswith("postgresql:")
        return DatabaseSink(url) if server else sink
    if scheme == "parquet":
        return ParquetSink(local_path("--sink", rest, _FORMS[scheme]))
    if scheme == "postgresql":
        return DatabaseSink(_postgresql(url, rest, option))
    if scheme == "bigquery":
        return BigQuerySink(TableName.parse(rest))
    if scheme == "iceberg":
        return IcebergSink(IcebergRun.parse("--sink", rest))
    if not rest.startswith("///") or len(rest) == 3 or "?" in rest:
        raise UsageError(
            f"{option}: no file given, or options after it; write {_FORMS[scheme]}", Code.SINK_URL
        )
    return DatabaseSink(sqlite_url(absolute(Path(unquote(rest[3:])))))


def parse_archive(url: str) -> IcebergRun:
    """Return the table for all scores that `url` names, without opening it.

    Raises:
      UsageError: it names no table.
    """
    _, rest = split_scheme("--archive", url, {"iceberg": ICEBERG_FORM})
    return IcebergRun.parse("--archive", rest)


def _postgresql(url: str, rest: str, option: str) -> str:
    if not rest.startswith("//"):
        raise UsageError(f"{option}: no server given; write {_FORMS['postgresql']}", Code.SINK_URL)
    parsed = parse(url, option)
    for name in FILE_OPTIONS:
        # An absolute path, so that it means the same in every worker process.
        path = parsed.query.get(name)
        if isinstance(path, str) and path != "system":
            parsed = parsed.update_query_dict({name: str(absolute(Path(path)))})
    return parsed.render_as_string(hide_password=False)
