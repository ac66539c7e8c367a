"""Locks on files: held by one process, and released by the kernel at its end."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Locks of this process until `release`, by key.
_held: dict[Path, FileLock] = {}


class FileLock:
    """An exclusive lock on an open file."""

    def __init__(self, descriptor: int) -> None:
        """Own a descriptor that holds the lock."""
        self.descriptor = descriptor

    def release(self) -> None:
        """Close the file, which releases the lock."""
        os.close(self.descriptor)


def lock(
    path: Path, *, wait: bool = False, flags: int = os.O_RDWR | os.O_CREAT, mode: int = 0o644
) -> FileLock:
    """Lock a file, or a directory.

    Args:
      path: the file or directory.
      wait: whether to wait for another holder.
      flags: of `os.open`; by default a missing file is created.
      mode: permissions of a new file, before the process's mask.

    Raises:
      BlockingIOError: another process, or another lock of this one, holds it.
      OSError: the file system reports an error, or has no locks.
    """
    descriptor = os.open(path, flags, mode)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return FileLock(descriptor)


def lock_current(
    path: Path, *, wait: bool = False, flags: int = os.O_RDWR | os.O_CREAT, mode: int = 0o644
) -> FileLock:
    """Lock the current file at `path`, even if others replace or remove it meanwhile.

    Arguments and errors as in `lock`.
    """
    while True:
        held = lock(path, wait=wait, flags=flags, mode=mode)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held.descriptor), path.stat()):
                return held
        # The last holder replaced or removed the file in between.
        held.release()


@contextmanager
def locked_directory(directory: Path) -> Iterator[None]:
    """Exclude other runs while the body reads or changes a directory.

    Some file systems cannot lock directories; then only names keep runs apart.

    Raises:
      OSError: the directory does not exist or is not readable.
    """
    held = None
    try:
        held = lock(directory, wait=True, flags=os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        raise
    except OSError:
        pass
    try:
        yield
    finally:
        if held is not None:
            held.release()


def hold(key: Path, lock: FileLock) -> None:
    """Hold a lock until `release` or the end of this process."""
    _held[key] = lock


def holds(key: Path) -> bool:
    """Return whether this process holds a lock with that key."""
    return key in _held


def release(key: Path) -> None:
    """Release the lock of a key, if any."""
    held = _held.pop(key, None)
    if held is not None:
        held.release()
