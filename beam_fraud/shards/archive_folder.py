"""Where the parts of an archive are: a directory of this machine, or a URL."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from beam_fraud.shards.unfinished_part import UnfinishedPart, publish, remove_unfinished
from beam_fraud.sinks import objects
from beam_fraud.sinks.folder import make_directory

_ENDING, _UNFINISHED = ".parquet", ".unfinished"


class ArchiveFolder(Protocol):
    """What a shard does with its parts; OSError where the file system refuses."""

    def take_up(self, prefix: str, number: int) -> None:
        """Make the place, and remove parts from `number` on and whatever is unfinished."""

    def begin(self, prefix: str, schema: pa.Schema) -> UnfinishedPart:
        """A part that nobody sees."""

    def finish(self, part: UnfinishedPart, prefix: str) -> str:
        """Name of the whole part, which nobody sees yet."""

    def show(self, hidden: str, prefix: str, number: int) -> None:
        """Have it seen; nothing if it is."""

    def hides(self, hidden: str) -> bool:
        """Whether it is there and not seen."""


def archive_folder(place: Path | str) -> ArchiveFolder:
    """The folder at a path or URL."""
    return _Directory(place) if isinstance(place, Path) else _AtUrl(place)


class _Directory:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def take_up(self, prefix: str, number: int) -> None:
        make_directory(self._directory)
        remove_unfinished(self._directory, prefix)
        for path in self._directory.glob(f"{prefix}*{_ENDING}"):
            if _number(path.name, prefix) >= number:
                path.unlink()

    def begin(self, prefix: str, schema: pa.Schema) -> UnfinishedPart:
        return UnfinishedPart(self._directory, prefix, schema)

    def finish(self, part: UnfinishedPart, prefix: str) -> str:
        return part.finish().name

    def show(self, hidden: str, prefix: str, number: int) -> None:
        path = self._directory / f"{prefix}{number:08d}{_ENDING}"
        publish(self._directory / Path(hidden).name, path)

    def hides(self, hidden: str) -> bool:
        return (self._directory / Path(hidden).name).exists()


class _AtUrl:
    """Parts grow on the worker's disk, and are uploaded whole.

    A worker that the runner takes for dead may still upload one whose rows another has written: so
    names are never the same, and such rows are there twice rather than others not at all.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def take_up(self, prefix: str, number: int) -> None:
        found = objects.objects(f"{self._url}/{prefix}*{_ENDING}")
        names = ((path, path.rpartition("/")[2]) for path in found)
        objects.remove([path for path, name in names if _number(name, prefix) >= number])
        objects.remove(objects.objects(f"{self._url}/.{prefix}*{_UNFINISHED}"))

    def begin(self, prefix: str, schema: pa.Schema) -> UnfinishedPart:
        return UnfinishedPart(Path(tempfile.gettempdir()), prefix, schema)

    def finish(self, part: UnfinishedPart, prefix: str) -> str:
        name = f".{prefix}{uuid.uuid4().hex[:12]}{_UNFINISHED}"
        objects.write(f"{self._url}/{name}", part.take())
        return name

    def show(self, hidden: str, prefix: str, number: int) -> None:
        mark = hidden.removeprefix(f".{prefix}").removesuffix(_UNFINISHED)
        name = f"{prefix}{number:08d}-{mark}{_ENDING}"
        objects.move(f"{self._url}/{hidden}", f"{self._url}/{name}")

    def hides(self, hidden: str) -> bool:
        return bool(objects.objects(f"{self._url}/{hidden}"))


def _number(name: str, prefix: str) -> int:
    """Which part this is; -1 for what is none of ours."""
    number = name.removeprefix(prefix).removesuffix(_ENDING).partition("-")[0]
    return int(number) if number.isdigit() else -1
