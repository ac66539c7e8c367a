"""Atomic writes: files and directories that appear complete or not at all, and checks before."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from beam_fraud.errors import Code, FraudError
from beam_fraud.wording import reason_of

#: Suffix of an unfinished file.
ENDING = ".unfinished"
#: Permissions of a new file, before the process's mask.
_MODE = 0o666


def hidden_name(directory: Path, stem: str) -> Path:
    """Return the hidden name in `directory` of an unfinished file.

    Example:
      >>> hidden_name(Path("out"), "part-000-ab").name
      '.part-000-ab.unfinished'
    """
    return directory / f".{stem.removeprefix('.')}{ENDING}"


def hidden_beside(path: Path) -> Path:
    """Return a new hidden name at every call, for `move` to `path`."""
    return hidden_name(path.parent, f"{path.name}.{uuid.uuid4().hex[:8]}")


def remove_unfinished(directory: Path, stem: str = "") -> None:
    """Remove unfinished files of killed processes from `directory`.

    Args:
      directory: a directory in which no other process writes such files.
      stem: prefix of their names after the dot; empty for every name, hidden or not.

    Raises:
      OSError: the file system reports an error.
    """
    begin = f".{glob.escape(stem)}" if stem else ""
    for path in directory.glob(f"{begin}*{ENDING}"):
        path.unlink(missing_ok=True)


def remove_unfinished_of(path: Path) -> None:
    """Remove leftovers of killed processes of a file that no process writes, of all versions.

    Raises:
      OSError: the file system reports an error.
    """
    hidden_name(path.parent, path.name).unlink(missing_ok=True)
    remove_unfinished(path.parent, f"{path.name}.")


@contextmanager
def whole_file(
    path: Path, *, hidden: Path | None = None, mode: int = _MODE, durable: bool = True
) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` atomically once the body succeeds.

    If the body or the file system fails, `path` stays unchanged and no other file remains.

    Args:
      path: a path in an existing directory.
      hidden: temporary path in the same directory; None for `hidden_beside`.
      mode: permissions of the file, before the process's mask.
      durable: whether the file survives a loss of power once this returns.

    Raises:
      OSError: the file system reports an error.
    """
    hidden = hidden or hidden_beside(path)
    try:
        with open(hidden, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
            if durable:
                # Compressors close their output.
                sync_path(hidden) if file.closed else sync(file)
        move(hidden, path)
        if durable:
            sync_path(path.parent)
    except BaseException:
        with suppress(OSError):
            hidden.unlink(missing_ok=True)
        raise


def write_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file of these bytes atomically.

    Raises:
      OSError: the file system reports an error.
    """
    with whole_file(path, durable=durable) as file:
        file.write(data)


def write_directory(target: Path, files: Mapping[str, bytes]) -> None:
    """Write a directory of these files, replacing another; create its parents.

    Args:
      target: absolute path.
      files: name to contents; a name may be a path below the directory.

    Raises:
      OSError: the file system reports an error; `target` is unchanged.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    new, old = temporary / "new", temporary / "old"
    try:
        new.mkdir()
        for name, data in files.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            with open(new / name, "wb") as file:
                file.write(data)
                sync(file)
        if target.exists():
            move(target, old)
        try:
            move(new, target)
        except OSError:
            if old.exists():
                move(old, target)
            raise
        sync_path(target.parent)
    finally:
        # Never delete what could not be restored.
        if target.exists() or not old.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def move(old: Path, new: Path) -> None:
    """Rename a file or directory on one file system, atomically.

    Raises:
      OSError: the file system reports an error; FileNotFoundError without `old`.
    """
    old.rename(new)


def sync(file: BinaryIO) -> None:
    """Flush a file to its disk, if it has one.

    Raises:
      OSError: the file system reports an error.
    """
    file.flush()
    _sync(file.fileno())


def sync_path(path: Path) -> None:
    """Flush a file, or the names in a directory, to the disk.

    Raises:
      OSError: the file system reports an error.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def sync_data(descriptor: int) -> None:
    """Flush the data of an open file that has its size already.

    Raises:
      OSError: the disk does not take them.
    """
    # Not everywhere is there a call that spares the times of the file.
    getattr(os, "fdatasync", os.fsync)(descriptor)


def start_to_write(descriptor: int, place: int, size: int) -> None:
    """Have the system begin to write a range of an open file, and do not wait for it.

    A `sync_data` that follows later waits the less.
    """
    # Linux does so for the pages of the range. It drops whole pages only, which are not read again.
    advise = getattr(os, "posix_fadvise", None)
    if advise is not None:
        advise(descriptor, place, size, os.POSIX_FADV_DONTNEED)


def append_lines(descriptor: int, lines: bytes) -> None:
    """Append lines to a file, all or none, and flush them to the disk.

    First end an incomplete last line of a killed process.

    Args:
      descriptor: of a file opened to read and append.
      lines: lines with line ends.

    Raises:
      OSError: the file system reports an error; the file keeps its length.
    """
    end = os.fstat(descriptor).st_size
    torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
    rest = memoryview(b"\n" + lines if torn else lines)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        _sync(descriptor)
    except OSError:
        # A full disk takes a part of the data: a retry would write that part twice.
        os.ftruncate(descriptor, end)
        raise


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        # A pipe or a device has no disk, and some file systems cannot sync directories.
        if error.errno != errno.EINVAL:
            raise


def nearest_directory(path: Path) -> Path:
    """Return the nearest existing path above an absolute path, or the path itself."""
    return next(place for place in (path, *path.parents) if place.exists())


def check_writable(directory: Path) -> None:
    """Check that files can be created in `directory`, or that it can be created.

    Raises:
      FraudError: a file is in the way, or the file system reports an error.
    """
    existing = directory
    try:
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        if existing.is_dir():
            with tempfile.TemporaryFile(dir=existing):
                return
    except OSError as error:
        raise FraudError(
            f"{directory}: cannot write to {existing} ({reason_of(error)}), give another directory",
            Code.OUTPUT_UNWRITABLE,
        ) from None
    raise FraudError(f"{directory}: {existing} is a file, give a directory", Code.OUTPUT_NAME)


def make_directory(directory: Path) -> None:
    """Create `directory` and its missing parents.

    Raises:
      FraudError: as in `check_writable`.
    """
    check_writable(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FraudError(
            f"{directory}: cannot be made ({reason_of(error)})", Code.OUTPUT_UNWRITABLE
        ) from None
