"""Rows on this machine's disk, in parts that fit memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

#: Rows per write: fewer rows make many small batches, more need more memory.
_ROWS_AT_ONCE = 8_192
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


@dataclass(frozen=True)
class SpilledPart:
    """A file with rows of one part."""

    #: Number of the part.
    part: int
    #: The file: an Arrow IPC stream.
    path: str
    #: Number of rows.
    rows: int


class SpillWriter:
    """Write rows to files, one for each part with rows.

    Buffers up to 8,192 rows per part. Drops the metadata of batches.
    """

    def __init__(self, directory: Path, name: str) -> None:
        """Write to `directory/name-<part>.arrow`; create the directory."""
        self._directory = directory
        self._name = name
        self._waiting: dict[int, list[pa.RecordBatch]] = defaultdict(list)
        self._rows: dict[int, int] = defaultdict(int)
        self._writers: dict[int, pa.ipc.RecordBatchStreamWriter] = {}
        self._written: dict[int, int] = defaultdict(int)
        directory.mkdir(parents=True, exist_ok=True)

    def write(self, part: int, batch: pa.RecordBatch) -> None:
        """Add rows to a part; all batches of a writer have the same columns.

        Raises:
          OSError: the disk is full or unavailable.
        """
        self._waiting[part].append(batch.replace_schema_metadata(None))
        self._rows[part] += len(batch)
        if self._rows[part] >= _ROWS_AT_ONCE:
            self._flush(part)

    def close(self) -> list[SpilledPart]:
        """Write the buffered rows, and return the parts.

        Raises:
          OSError: the disk is full or unavailable.
        """
        for part in list(self._waiting):
            self._flush(part)
        for writer in self._writers.values():
            writer.close()
        return [
            SpilledPart(part, str(self._path(part)), rows) for part, rows in self._written.items()
        ]

    def _flush(self, part: int) -> None:
        batch = pa.concat_batches(self._waiting.pop(part))
        writer = self._writers.get(part)
        if writer is None:
            writer = pa.ipc.new_stream(str(self._path(part)), batch.schema, options=_OPTIONS)
            self._writers[part] = writer
        writer.write_batch(batch)
        self._written[part] += self._rows.pop(part)

    def _path(self, part: int) -> Path:
        return self._directory / f"{self._name}-{part:03d}.arrow"


def read_spilled(part: SpilledPart) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a file of `SpillWriter`, in the order of writing.

    Raises:
      OSError: the file cannot be read.
    """
    with pa.OSFile(part.path) as file, pa.ipc.open_stream(file) as reader:
        yield from reader


#: Part numbers fit a byte, which NumPy sorts in linear time.
MOST_PARTS = 256


def split(
    batch: pa.RecordBatch, part: npt.NDArray[np.integer]
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield the rows of each part, in the order of the batch.

    Args:
      batch: n rows.
      part: integers[n] from 0 to 255: the part of each row.

    Yields:
      The number and rows of each part with rows.

    Example:
      >>> batch = pa.record_batch({"x": [1, 2, 3]})
      >>> [(part, rows["x"].to_pylist()) for part, rows in split(batch, np.array([7, 0, 7]))]
      [(0, [2]), (7, [1, 3])]
    """
    numbers = part.astype(np.uint8)
    order = np.argsort(numbers, kind="stable")
    ordered = batch.take(pa.array(order))
    ends = np.cumsum(np.bincount(numbers, minlength=1))
    start = 0
    for number, end in enumerate(ends.tolist()):
        if end > start:
            yield number, ordered.slice(start, end - start)
        start = end
