"""Locks on files: one process holds one, and the kernel releases it however that process ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Locks that this process holds until `release`, by what they stand for.
_held: dict[Path, FileLock] = {}


class FileLock:
    """An exclusive lock on an open file."""

    def __init__(self, descriptor: int) -> None:
        """Take over a descriptor that holds the lock."""
        self.descriptor = descriptor

    def release(self) -> None:
        """Close the file, which another process may lock then."""
        os.close(self.descriptor)


def lock(
    path: Path, *, wait: bool = False, flags: int = os.O_RDWR | os.O_CREAT, mode: int = 0o644
) -> FileLock:
    """Lock a file, or a directory.

    Args:
      path: of the file.
      wait: whether to wait while another process holds it.
      flags: of `os.open`; by default the file is made.
      mode: permissions of a new file, before the process's mask.

    Raises:
      BlockingIOError: another process, or another lock of this one, holds it.
      OSError: the file system refuses, or has no locks.
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
    """Lock the file that is at `path` once the lock is held, where others replace or remove it.

    Args and errors are those of `lock`.
    """
    while True:
        held = lock(path, wait=wait, flags=flags, mode=mode)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held.descriptor), path.stat()):
                return held
        # The last holder replaced or removed the file between both calls.
        held.release()


@contextmanager
def locked_directory(directory: Path) -> Iterator[None]:
    """Hold off other runs while the body looks at what is in a directory, or changes it.

    Not every file system locks directories; without that, names alone tell runs apart.

    Raises:
      OSError: there is no such directory, or it may not be read.
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
    """Keep a lock until `release`, or until this process ends."""
    _held[key] = lock


def holds(key: Path) -> bool:
    """Return whether this process keeps a lock under that key."""
    return key in _held


def release(key: Path) -> None:
    """Release the lock under a key, if there is one."""
    held = _held.pop(key, None)
    if held is not None:
        held.release()
