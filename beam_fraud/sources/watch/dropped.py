"""Files that were dropped into a directory, and when each is whole."""

from __future__ import annotations

import os
import stat
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from beam_fraud.sources.file_format import format_of

#: How names begin that are not meant to be read: hidden ones, and marks such as `_SUCCESS`.
_HIDDEN = (".", "_")
#: How names end under which programs write what is not finished yet.
_UNFINISHED = (".tmp", ".part", ".crdownload", "~")
#: Seconds after which a file that is still empty is not about to be written.
_EMPTY_SECONDS = 10.0


def shown(name: str) -> str:
    """Return a file's name as text, whatever its bytes are."""
    return os.fsencode(name).decode(errors="backslashreplace")


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
        return shown(self.name)

    @property
    def name_hash(self) -> bytes:
        """8 bytes for the name."""
        return blake2b(os.fsencode(self.name), digest_size=8).digest()

    @property
    def content_hash(self) -> bytes:
        """4 bytes for size and time: others, most likely, once the file was written to."""
        return zlib.crc32(f"{self.size}:{self.modified}".encode()).to_bytes(4, "big")

    def now(self) -> DroppedFile | None:
        """Return the same file as it is now; None if it is gone."""
        found = _look(Path(self.path))
        return found if isinstance(found, DroppedFile) else None


@dataclass(frozen=True)
class Listing:
    """What is in a directory at one moment, of names that are meant to be read."""

    #: The files that have something in them.
    files: list[DroppedFile]
    #: Why something else is no file to read, by its name.
    odd: dict[str, str]


def list_directory(directory: str) -> Listing:
    """List a directory; its folders are passed over, unless they are named as files are.

    Raises:
      OSError: the directory cannot be read.
    """
    listing = Listing([], {})
    with os.scandir(str(Path(directory).absolute())) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(_HIDDEN) or name.lower().endswith(_UNFINISHED):
                continue
            found = _look(entry)
            if isinstance(found, str):
                listing.odd[name] = found
            elif found is not None and found.size:
                listing.files.append(found)
            elif found is not None and time.time() - found.modified / 1e9 > _EMPTY_SECONDS:
                # One that was just made would be taken for a whole one.
                listing.odd[name] = "is empty"
    return listing


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


def _look(place: os.DirEntry[str] | Path) -> DroppedFile | str | None:
    """Return a file; what is wrong with something that is named like one; None for all else."""
    try:
        status = place.stat()
    except OSError as error:
        if place.is_symlink():
            return f"is a link that leads to nothing readable ({error.strerror})"
        return (
            None if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        )
    if stat.S_ISREG(status.st_mode):
        return DroppedFile(os.fspath(place), status.st_size, status.st_mtime_ns)
    if stat.S_ISDIR(status.st_mode):
        return "is a folder" if format_of(place.name) else None
    return "is a pipe, socket or device"
