"""Open and list files, and read their text: local ones directly, others by Beam's file systems.

Beam's file systems support local files as well, but importing Beam takes seconds, which training
and evaluation on local files need not pay.
"""

from __future__ import annotations

import codecs
import hashlib
import logging
import re
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from os.path import realpath
from pathlib import Path
from types import TracebackType
from zipfile import BadZipFile, ZipFile

import pyarrow as pa

from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.notation import UTF_8
from beam_fraud.sources.file_format import FileFormat
from beam_fraud.sources.json_array import ArrayLines
from beam_fraud.storage import objects
from beam_fraud.storage.objects import file_systems, is_missing, missing_file_system
from beam_fraud.storage.urls import Place
from beam_fraud.wording import first_line, reason_of

_LOG = logging.getLogger(__name__)
_WILDCARD = re.compile(r"[*?\[]")
_SKIP_BYTES = 1 << 20
#: Bytes that are read at once for a digest.
_DIGEST_BYTES = 4 << 20
#: Directory of the log of a Delta table.
DELTA_LOG = "_delta_log"
#: Errors of damaged compressed data, or of an encrypted archive.
_DAMAGE = (OSError, EOFError, ValueError, RuntimeError, zlib.error, BadZipFile)


@dataclass(frozen=True)
class FoundFile:
    """A file that matches a path or pattern."""

    place: Place
    #: Path relative to the user's path, used in positions and derived ids.
    name: str
    #: Size in bytes, as stored.
    size: int
    #: Time of the last change, seconds of the epoch; None where it is unknown.
    modified: float | None = None

    @property
    def path(self) -> str:
        """Absolute path or URL."""
        return self.place.name


def open_file(place: Place) -> pa.NativeFile:
    """Open a file for reading, seekable, its bytes as stored.

    Raises:
      FraudError: the file cannot be opened.
    """
    try:
        if place.local is not None:
            return pa.OSFile(place.name, "rb")
        # Otherwise Arrow would decompress by the ending.
        stored = file_systems().open(place.name, compression_type="uncompressed")
        return pa.PythonFile(stored, mode="r")
    except Exception as error:
        raise FraudError(
            f"{place}: cannot be opened: {reason_of(error)}", Code.INPUT_UNREADABLE
        ) from None


def sha256_of(place: Place) -> str:
    """Return the SHA-256 of a file as stored, in hex digits.

    Raises:
      FraudError: the file cannot be opened.
      OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with open_file(place) as file:
        while chunk := file.read(_DIGEST_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def size_and_time(place: Place) -> tuple[int, float | None]:
    """Return the size of a file in bytes, and when it changed, seconds of the epoch, if known.

    Raises:
      FraudError: it cannot be read.
    """
    try:
        if place.local is None:
            return objects.size_and_time(place.name)
        described = place.local.stat()
    except OSError as error:
        raise FraudError(
            f"{place}: cannot be read: {reason_of(error)}", Code.INPUT_UNREADABLE
        ) from None
    return described.st_size, described.st_mtime


def list_files(place: Place) -> list[FoundFile]:
    """Return the files of a file's place, a directory's or a glob, sorted by name.

    Skip files and folders of a directory whose names start with `.` or `_`, as data tools that
    write such directories expect.

    Raises:
      FraudError: there is no such file, or the file system fails.
    """
    path, shown = place.local, place.shown
    files = _list_remote(place.name) if path is None else _list_local(shown, path)
    if not files:
        raise FraudError(
            f"{shown}: no such file, no match, or a directory without files", Code.INPUT_MISSING
        )
    return sorted(files, key=lambda file: file.name)


def _list_local(shown: str, path: Path) -> list[FoundFile]:
    try:
        if path.is_dir():
            return list(_below(path))
        if path.is_file():
            return [_local(path, path.parent)]
        if path.exists():
            raise FraudError(
                f"{shown}: is not a regular file; write its content to one first",
                Code.INPUT_UNREADABLE,
            )
        if not _WILDCARD.search(shown):
            return []
        fixed = Path(_fixed_part(str(path)))
        matches = (fixed / match for match in fixed.glob(str(path.relative_to(fixed))))
        return [_local(match, fixed) for match in matches if match.is_file()]
    except OSError as error:
        raise FraudError(
            f"{shown}: cannot be read: {reason_of(error)}", Code.INPUT_UNREADABLE
        ) from None


def _below(path: Path) -> Iterator[FoundFile]:
    """Yield the files of a folder and its subfolders, each folder once, links last.

    Raises:
      OSError: a folder cannot be listed.
    """
    places, links, seen = deque([path]), deque[Path](), set[str]()
    while places or links:
        place = places.popleft() if places else links.popleft()
        if (real := realpath(place)) in seen:
            continue
        seen.add(real)
        for child in sorted(place.iterdir()):
            if _hidden((child.name,)):
                continue
            if child.is_dir():
                (links if child.is_symlink() else places).append(child)
            elif child.is_file():
                yield _local(child, path)
            else:
                kind = "a link to nothing" if child.is_symlink() else "no regular file"
                _LOG.warning("%s: is %s; left out", child, kind)


def _local(path: Path, relative_to: Path) -> FoundFile:
    name, described = path.relative_to(relative_to).as_posix(), path.stat()
    return FoundFile(Place.at(path), name, described.st_size, described.st_mtime)


def _list_remote(url: str) -> list[FoundFile]:
    beam = file_systems()
    directory = url.rstrip("/") + "/"
    try:
        # List the contents first: some file systems match a directory as a file.
        entries = beam.match([directory + "**"])[0].metadata_list
        fixed = directory
        if not entries:
            entries = beam.match([url])[0].metadata_list
            fixed = _fixed_part(url) if _WILDCARD.search(url) else url.rpartition("/")[0]
    except ValueError as error:
        raise missing_file_system(url, url, error) from None
    except Exception as error:
        if is_missing(url):
            raise missing_file_system(url, url, error) from None
        raise FraudError(
            f"{url}: cannot be listed: {reason_of(error)}", Code.INPUT_UNREADABLE
        ) from None
    fixed = fixed.rstrip("/") + "/"
    for entry in entries:
        if (at := entry.path.find(f"/{DELTA_LOG}/")) >= 0:
            raise within_table(entry.path[:at], "Delta")
    return [
        FoundFile(
            Place(entry.path, None),
            entry.path.removeprefix(fixed),
            entry.size_in_bytes,
            entry.last_updated_in_seconds or None,
        )
        for entry in entries
        if not _hidden(tuple(entry.path.removeprefix(fixed).split("/")))
    ]


def within_table(root: str, kind: str) -> FraudError:
    """Return the error for files of a table that are listed as files."""
    return FraudError(
        f"{root}: is a {kind} table, whose directory has removed files as well; name the table, "
        "not files in it or a directory above",
        Code.INPUT_FORMAT,
    )


def _fixed_part(pattern: str) -> str:
    """Return the folder that contains a glob's first wildcard."""
    wildcard = _WILDCARD.search(pattern)
    before = pattern[: wildcard.start()] if wildcard else pattern
    return before.rpartition("/")[0] or "/"


def _hidden(parts: tuple[str, ...]) -> bool:
    return any(part.startswith((".", "_")) for part in parts)


def sole_member(place: Place) -> str:
    """Return the name of the one file in a ZIP archive.

    Raises:
      FraudError: the archive cannot be read, or holds none or several files.
    """
    with open_file(place) as file:
        return _opened(place, file)[1]


def _opened(place: Place, file: pa.NativeFile) -> tuple[ZipFile, str]:
    """Open a ZIP archive; return it and the name of its one file; errors as in `sole_member`."""
    try:
        archive = ZipFile(file)
    except _DAMAGE as error:
        raise _damaged(place, error) from None
    names = [one.filename for one in archive.infolist() if not one.is_dir()]
    if len(names) != 1:
        raise FraudError(
            f"{place}: is a ZIP archive of {len(names):,} files; unpack it", Code.INPUT_FORMAT
        )
    return archive, names[0]


class TextStream:
    """Read the bytes `[start, stop)` of a file's text, as UTF-8.

    Bytes that are not of the file's encoding stay as they are, so that their records are no UTF-8.

    Raises:
      FraudError: the file cannot be opened, or its compressed data are damaged or truncated.
    """

    def __init__(
        self, place: Place, file_format: FileFormat, start: int = 0, stop: int | None = None
    ) -> None:
        self._place = place
        self._file = open_file(place)
        self._stream = self._file
        if file_format.compression == "zip":
            archive, member = _opened(place, self._file)
            try:
                self._stream = pa.PythonFile(archive.open(member), "r")
            except _DAMAGE as error:
                raise _damaged(place, error) from None
        elif file_format.compression:
            self._stream = pa.CompressedInputStream(self._file, file_format.compression)
        self._decoder = None
        if file_format.encoding is not None:
            self._decoder = codecs.getincrementaldecoder(file_format.encoding)("surrogateescape")
        self._array = ArrayLines() if file_format.array else None
        #: Decoded bytes that were not returned yet.
        self._decoded, self._ended = bytearray(), False
        self._left = None if stop is None else stop - start
        if start and not file_format.sequential:
            self._stream.seek(start)
        elif start:
            self._skip(start)

    def __enter__(self) -> TextStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes; none at the end."""
        if self._left is not None:
            size = min(size, self._left)
        data = self._stored(size) if self._decoder is None else self._recoded(size)
        if self._array is not None:
            data = self._array.convert(data)
        if self._left is not None:
            self._left -= len(data)
        return data

    def _stored(self, size: int) -> bytes:
        try:
            # Buffers of `read` leak if the compressed data are damaged.
            data: bytes = self._stream.read_buffer(size).to_pybytes()
        except _DAMAGE as error:
            raise _damaged(self._place, error) from None
        return data

    def _recoded(self, size: int) -> bytes:
        assert self._decoder is not None
        while len(self._decoded) < size and not self._ended:
            stored = self._stored(_SKIP_BYTES)
            self._ended = not stored
            try:
                text = self._decoder.decode(stored, self._ended)
            except UnicodeDecodeError as error:
                raise FraudError(
                    f"{self._place}: is not {error.encoding}, as [source] of the schema says",
                    Code.INPUT_DAMAGED,
                ) from None
            self._decoded += text.encode(UTF_8, "surrogateescape")
        data = bytes(self._decoded[:size])
        del self._decoded[:size]
        return data

    def _skip(self, size: int) -> None:
        while size and (data := self.read(min(size, _SKIP_BYTES))):
            size -= len(data)


def _damaged(place: Place, error: Exception) -> FraudError:
    return FraudError(f"{place}: is damaged or cut off: {first_line(error)}", Code.INPUT_DAMAGED)
