"""Where the parts of an archive are: a directory of this machine, or a URL."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from beam_fraud.storage import atomic, objects
from beam_fraud.storage.folder import make_directory
from beam_fraud.storage.parquet_writer import ParquetBlockWriter

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
        self._path = atomic.hidden_name(directory, f"{prefix}{uuid.uuid4().hex[:12]}")
        self._file = open(self._path, "wb")  # noqa: SIM115
        self._writer = ParquetBlockWriter(self._file, schema, _ROW_GROUP_ROWS)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append the rows of `batch`."""
        self._writer.write(batch)

    def finish(self) -> Path:
        """Where the finished file is, hidden still, for `publish`."""
        self._writer.close()
        atomic.sync(self._file)
        self._file.close()
        return self._path

    def discard(self) -> None:
        """Give up after a failure, and leave nothing once this object is gone."""
        # Closing would write more, where writing has failed.
        self._path.unlink(missing_ok=True)


def publish(hidden: Path, path: Path) -> None:
    """Give a finished file its name, for good even if the power goes; once is enough."""
    with suppress(FileNotFoundError):
        atomic.move(hidden, path)
    atomic.sync_directory(path.parent)


_ENDING = ".parquet"


class ArchiveFolder(Protocol):
    """What a shard does with its parts; OSError where the file system refuses.

    The prefix is that of the shard's parts; a hidden name is what `hide` has given.
    """

    def take_up(self, prefix: str, number: int, finished: Mapping[int, str]) -> None:
        """Make the place; publish what is finished, remove parts from `number` on and the rest."""

    def begin(self, prefix: str, schema: pa.Schema) -> UnfinishedPart:
        """A part that nobody sees."""

    def hide(self, part: UnfinishedPart, prefix: str) -> str:
        """Finish it, for `publish`; its hidden name."""

    def hides(self, hidden: str) -> bool:
        """Whether it waits there still."""

    def publish(self, hidden: str, prefix: str, number: int) -> None:
        """Have it seen, whole; once is enough."""


def archive_folder(place: Path | str) -> ArchiveFolder:
    """The folder at a path or URL."""
    return _Directory(place) if isinstance(place, Path) else _AtUrl(place)


class _Directory:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def take_up(self, prefix: str, number: int, finished: Mapping[int, str]) -> None:
        make_directory(self._directory)
        for which, hidden in finished.items():
            self.publish(hidden, prefix, which)
        atomic.remove_unfinished(self._directory, prefix)
        for path in self._directory.glob(f"{prefix}*{_ENDING}"):
            if _number(path.name, prefix) >= number:
                path.unlink()

    def begin(self, prefix: str, schema: pa.Schema) -> UnfinishedPart:
        return UnfinishedPart(self._directory, prefix, schema)

    def hide(self, part: UnfinishedPart, prefix: str) -> str:
        return part.finish().name

    def hides(self, hidden: str) -> bool:
        return (self._directory / hidden).exists()

    def publish(self, hidden: str, prefix: str, number: int) -> None:
        publish(self._directory / hidden, self._directory / f"{prefix}{number:08d}{_ENDING}")


class _AtUrl:
    """Parts grow on the worker's disk, and are uploaded whole.

    A worker that the runner takes for dead may still upload one whose rows another has written: so
    names are never the same, and such rows are there twice rather than others not at all.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def take_up(self, prefix: str, number: int, finished: Mapping[int, str]) -> None:
        for which, hidden in finished.items():
            self.publish(hidden, prefix, which)
        found = objects.objects(f"{self._url}/{prefix}*{_ENDING}")
        names = ((path, path.rpartition("/")[2]) for path in found)
        later = [path for path, name in names if _number(name, prefix) >= number]
        objects.remove([*later, *objects.objects(f"{self._url}/.{prefix}*")])

    def begin(self, prefix: str, schema: pa.Schema) -> UnfinishedPart:
        return UnfinishedPart(Path(tempfile.gettempdir()), prefix, schema)

    def hide(self, part: UnfinishedPart, prefix: str) -> str:
        file = part.finish()
        objects.write(f"{self._url}/{file.name}", file.read_bytes())
        file.unlink()
        return file.name

    def hides(self, hidden: str) -> bool:
        return objects.exists(f"{self._url}/{hidden}")

    def publish(self, hidden: str, prefix: str, number: int) -> None:
        if self.hides(hidden):
            token = Path(hidden).stem.rpartition("-")[2]
            name = f"{prefix}{number:08d}-{token}{_ENDING}"
            objects.move(f"{self._url}/{hidden}", f"{self._url}/{name}")


def _number(name: str, prefix: str) -> int:
    """Which part this is; -1 for what is none of ours."""
    number = name.removeprefix(prefix).removesuffix(_ENDING).partition("-")[0]
    return int(number) if number.isdigit() else -1
