"""Put files into a watched directory and read them without a pipeline."""

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from apache_beam.utils.timestamp import MAX_TIMESTAMP

from beam_fraud.sources.raw import origin_of
from beam_fraud.sources.watch.position import WatchMark
from beam_fraud.sources.watch.source import WatchReader, WatchSource
from tests.reading import GOOD, csv_of, write_columns, write_text

#: Longer than anything here takes.
PATIENCE = 20.0


def rows(count: int, prefix: str = "t") -> list[dict[str, Any]]:
    return [{**GOOD, "id": f"{prefix}{i}"} for i in range(count)]


def drop(path: Path, count: int, prefix: str = "t", seconds: float | None = None) -> Path:
    """Write a file of `count` rows with modification time `seconds`."""
    if path.suffix in (".parquet", ".orc", ".avro"):
        write_columns(path, pa.Table.from_pylist(rows(count, prefix)))
    elif path.suffix == ".csv":
        write_text(path, csv_of(*rows(count, prefix)))
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows(count, prefix))
        write_text(path, text.encode())
    if seconds is not None:
        os.utime(path, (seconds, seconds))
    return path


def batches(reader: WatchReader, enough: Callable[[], bool] = lambda: False) -> list[Any]:
    """Yield raw batches until the reader ends or `enough` returns true."""
    result, deadline = [], time.monotonic() + PATIENCE
    while reader.get_watermark() < MAX_TIMESTAMP:
        assert time.monotonic() < deadline
        if reader.advance():
            result.append(reader.get_current())
            if enough():
                break
    return result


def first(reader: WatchReader, count: int) -> list[Any]:
    """Return the first raw batches."""
    left = iter(range(count - 1))
    return batches(reader, lambda: next(left, None) is None)


def read(source: WatchSource, mark: WatchMark | None = None) -> list[dict[str, Any]]:
    """Return raw rows until the reader ends."""
    return raw_rows(batches(source.create_reader(None, mark)))


def raw_rows(found: list[pa.RecordBatch]) -> list[dict[str, Any]]:
    return [{"source": origin_of(b).source, **row} for b in found for row in b.to_pylist()]


def places(found: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(row["source"], row["@position"]) for row in found]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
