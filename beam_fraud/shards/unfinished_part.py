"""A Parquet file that nobody sees before it is whole and on the disk."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from beam_fraud.sinks.parquet_writer import ParquetBlockWriter

#: Few rows, so that no batch waits for long until those before it are written.
_ROW_GROUP_ROWS = 16_384


class UnfinishedPart:
    """A hidden file in the directory where it is going to be seen.

    Every method raises OSError where the file system refuses.

    Args:
      directory: where.
      prefix: what the name begins with after a dot.
      schema: of the batches.
    """

    def __init__(self, directory: Path, prefix: str, schema: pa.Schema) -> None:
        self._path = directory / f".{prefix}{uuid.uuid4().hex[:12]}.unfinished"
        self._file = open(self._path, "wb")  # noqa: SIM115
        self._writer = ParquetBlockWriter(self._file, schema, _ROW_GROUP_ROWS)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append the rows of `batch`."""
        self._writer.write(batch)

    def finish(self) -> Path:
        """Where the finished file is, hidden still, for `publish`."""
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._path

    def discard(self) -> None:
        """Give up after a failure, and leave nothing once this object is gone."""
        # Closing would write more, where writing has failed.
        self._path.unlink(missing_ok=True)


def publish(hidden: Path, path: Path) -> None:
    """Give a finished file its name, for good even if the power goes; once is enough."""
    with suppress(FileNotFoundError):
        hidden.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def remove_unfinished(directory: Path, prefix: str) -> None:
    """Remove what parts with this prefix left that were never published."""
    for path in directory.glob(f".{prefix}*.unfinished"):
        path.unlink(missing_ok=True)
