"""Files that were dropped into a directory, and when each is whole."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

#: How names begin that are not meant to be read: hidden ones, and marks such as `_SUCCESS`.
_HIDDEN = (".", "_")
#: How names end under which programs write what is not finished yet.
_UNFINISHED = (".tmp", ".part", ".crdownload", "~")


@dataclass(frozen=True)
class DroppedFile:
    """A file as it was at one moment."""

    #: Absolute path.
    path: str
    #: Size in bytes, as stored.
    size: int
    #: When it was last written to, nanoseconds of the epoch.
    modified: int

    @property
    def name(self) -> str:
        """Its name in the directory."""
        return self.path.rpartition("/")[2]

    @property
    def shown(self) -> str:
        """The name, as text whatever its bytes are."""
        return os.fsencode(self.name).decode(errors="backslashreplace")

    @property
    def name_hash(self) -> bytes:
        """8 bytes for the name."""
        return blake2b(os.fsencode(self.name), digest_size=8).digest()

    @property
    def content_hash(self) -> bytes:
        """4 bytes for size and time: others, most likely, once the file was written to."""
        return zlib.crc32(f"{self.size}:{self.modified}".encode()).to_bytes(4, "big")

    def now(self) -> DroppedFile | None:
        """The same file as it is now; None if it is gone."""
        return _look(Path(self.path))


def list_directory(directory: str) -> list[DroppedFile]:
    """The files in a directory that have something in them and a name that is meant to be read.

    Raises:
      OSError: the directory cannot be read.
    """
    folder = str(Path(directory).absolute())
    with os.scandir(folder) as entries:
        found = [
            _look(entry)
            for entry in entries
            if not entry.name.startswith(_HIDDEN) and not entry.name.lower().endswith(_UNFINISHED)
        ]
    # A file that is made and not written to yet would be taken for a whole one.
    return [file for file in found if file is not None and file.size]


class Settling:
    """Tells which files are whole: those that were the same in the listing before."""

    def __init__(self) -> None:
        self._before: set[DroppedFile] = set()

    def whole(self, found: Iterable[DroppedFile]) -> tuple[list[DroppedFile], bool]:
        """The whole ones among the files of a listing, by time and name, and if any other came."""
        listed = set(found)
        whole = sorted(listed & self._before, key=lambda file: (file.modified, file.name))
        growing = bool(listed - self._before)
        self._before = listed
        return whole, growing


def _look(place: os.DirEntry[str] | Path) -> DroppedFile | None:
    try:
        status = place.stat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return DroppedFile(os.fspath(place), status.st_size, status.st_mtime_ns)
