"""The folder of an archive's parts: a directory of this machine, or a URL."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from beam_fraud.storage import atomic
from beam_fraud.storage.parquet_writer import ParquetBlockWriter
from beam_fraud.storage.store import store_at

#: Rows per row group: few, so that no batch waits long for the write of earlier ones.
_ROW_GROUP_ROWS = 16_384


class UnfinishedPart:
    """A part in a hidden file of its final directory.

    Every method raises OSError if the file system fails.

    Args:
      directory: the directory.
      prefix: prefix of the name after the dot.
      schema: schema of the batches.
    """

    def __init__(self, directory: Path, prefix: str, schema: pa.Schema) -> None:
        self._path = atomic.hidden_name(directory, f"{prefix}{uuid.uuid4().hex[:12]}")
        self._file = open(self._path, "wb")  # noqa: SIM115
        self._writer = ParquetBlockWriter(self._file, schema, _ROW_GROUP_ROWS)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append the rows of `batch`."""
        self._writer.write(batch)

    def finish(self) -> Path:
        """Close the file and return its path, still hidden, for `publish`."""
        self._writer.close()
        atomic.sync(self._file)
        self._file.close()
        return self._path

    def discard(self) -> None:
        """Remove the file after a failure."""
        # Closing would write again after a failed write.
        self._path.unlink(missing_ok=True)


_ENDING = ".parquet"


class ArchiveFolder:
    """Operations of a shard on its parts; OSError if the file system fails.

    `prefix` is that of the shard's parts; a hidden name is a result of `hide`. At a URL, parts grow
    on the worker's disk. A worker that the runner believes dead may still upload a part whose rows
    another worker wrote; so names there never repeat, and such rows appear twice rather than others
    not at all.
    """

    def __init__(self, place: Path | str) -> None:
        self._store = store_at(place)
        self._at_url = not isinstance(place, Path)

    def take_up(self, prefix: str, number: int, finished: Mapping[int, str]) -> None:
        """Create the folder; publish finished parts, remove later ones and leftovers."""
        self._store.make()
        for which, hidden in finished.items():
            self.publish(hidden, prefix, which)
        parts = self._store.list(f"{prefix}*{_ENDING}")
        later = [name for name in parts if _number(name, prefix) >= number]
        self._store.remove([*later, *self._store.list(f".{prefix}*{atomic.ENDING}")])

    def begin(self, prefix: str, schema: pa.Schema) -> UnfinishedPart:
        """Begin a hidden part."""
        return UnfinishedPart(self._store.scratch, prefix, schema)

    def hide(self, part: UnfinishedPart) -> str:
        """Finish a part, for `publish`, and return its hidden name."""
        file = part.finish()
        self._store.take(file)
        return file.name

    def hides(self, hidden: str) -> bool:
        """Return whether a hidden part still exists."""
        return self._store.exists(hidden)

    def publish(self, hidden: str, prefix: str, number: int) -> None:
        """Publish a part atomically and durably; idempotent."""
        if self._at_url and not self.hides(hidden):
            return
        token = f"-{Path(hidden).stem.rpartition('-')[2]}" if self._at_url else ""
        self._store.move(hidden, f"{prefix}{number:08d}{token}{_ENDING}")


def _number(name: str, prefix: str) -> int:
    """Return the number of a part; -1 for other files."""
    number = name.removeprefix(prefix).removesuffix(_ENDING).partition("-")[0]
    return int(number) if number.isdigit() else -1
