"""Files in a watched directory, and their completeness."""

from __future__ import annotations

import os
import stat
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from beam_fraud.sources.file_format import format_in_directory

#: Prefixes of names to skip: hidden files, and markers such as `_SUCCESS`.
_HIDDEN = (".", "_")
#: Suffixes of unfinished files.
_UNFINISHED = (".tmp", ".part", ".crdownload", "~")
#: Seconds after which an empty file counts as abandoned.
_EMPTY_SECONDS = 10.0


def shown(name: str) -> str:
    """Return a file name as text, even with invalid bytes."""
    return os.fsencode(name).decode(errors="backslashreplace")


@dataclass(frozen=True)
class DroppedFile:
    """The state of a file at a moment."""

    #: Absolute path.
    path: str
    #: Size in bytes, as stored.
    size: int
    #: Modification time, nanoseconds of the epoch.
    modified: int

    @property
    def name(self) -> str:
        """Its name in the directory."""
        return self.path.rpartition("/")[2]

    @property
    def shown(self) -> str:
        """The name as text, even with invalid bytes."""
        return shown(self.name)

    @property
    def name_hash(self) -> bytes:
        """Return 8 bytes of the name's hash."""
        return blake2b(os.fsencode(self.name), digest_size=8).digest()

    @property
    def content_hash(self) -> bytes:
        """Return 4 bytes of a hash of size and time, which changes with the file."""
        return zlib.crc32(f"{self.size}:{self.modified}".encode()).to_bytes(4, "big")

    def now(self) -> DroppedFile | None:
        """Return the current state of the file; None if it was removed."""
        current = _look(Path(self.path))
        return current if isinstance(current, DroppedFile) else None


@dataclass(frozen=True)
class Listing:
    """The readable contents of a directory at a moment."""

    #: The non-empty files.
    files: list[DroppedFile]
    #: Name of each unreadable entry to the reason.
    odd: dict[str, str]


def list_directory(directory: str) -> Listing:
    """List a directory; skip folders, but report folders with names of files.

    Raises:
      OSError: the directory cannot be read.
    """
    listing = Listing([], {})
    with os.scandir(str(Path(directory).absolute())) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(_HIDDEN) or name.lower().endswith(_UNFINISHED):
                continue
            look = _look(entry)
            if isinstance(look, str):
                listing.odd[name] = look
            elif look is not None and look.size:
                listing.files.append(look)
            elif look is not None and time.time() - look.modified / 1e9 > _EMPTY_SECONDS:
                # A file just created would count as complete.
                listing.odd[name] = "is empty"
    return listing


class Settling:
    """Find complete files: those unchanged since the last listing."""

    def __init__(self) -> None:
        self._before: set[DroppedFile] = set()

    def whole(self, files: Iterable[DroppedFile]) -> tuple[list[DroppedFile], bool]:
        """Return the complete files by time and name, and whether others were listed."""
        listed = set(files)
        whole = sorted(listed & self._before, key=lambda file: (file.modified, file.name))
        growing = bool(listed - self._before)
        self._before = listed
        return whole, growing


def _look(place: os.DirEntry[str] | Path) -> DroppedFile | str | None:
    """Return a file; or what is wrong with an entry named like one; or None."""
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
        return "is a folder" if format_in_directory(place.name) else None
    return "is a pipe, socket or device"
