"""Locks on files: held by one process, and released by the kernel at its end.

`sole_writer` lets one command at a time write a file or bundle that appears at its end.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from beam_fraud.errors import Code, FraudError
from beam_fraud.storage.atomic import remove_unfinished_of
from beam_fraud.storage.urls import Place


class Releasable(Protocol):
    """A lock of any kind."""

    def release(self) -> None:
        """Let others have it."""


#: Locks of this process until `release`, by key: a path, or a URL.
_held: dict[Path | str, Releasable] = {}


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


def hold(key: Path | str, lock: Releasable) -> None:
    """Hold a lock until `release` or the end of this process."""
    _held[key] = lock


def holds(key: Path) -> bool:
    """Return whether this process holds a lock with that key."""
    return key in _held


def release(key: Path | str) -> None:
    """Release the lock of a key, if any."""
    held = _held.pop(key, None)
    if held is not None:
        held.release()


@contextmanager
def sole_writer(option: str, *places: Place) -> Iterator[None]:
    """Lock the places that a command writes; a second command fails at its start.

    Otherwise both would work for long, and one result would vanish silently.

    Args:
      option: the option with the places, for the message.
      places: files or directories. URLs, which cannot be locked, are skipped.

    Raises:
      FraudError: another command writes one of them.
    """
    with ExitStack() as stack:
        # Each once: the command itself reports repeats.
        for place in dict.fromkeys(place.local for place in places):
            if place is not None:
                stack.enter_context(_locked(option, place))
        yield


@contextmanager
def _locked(option: str, place: Path) -> Iterator[None]:
    """Hold a lock beside a place; the kernel releases it with the process."""
    # A missing place is created by the command, so lock the nearest directory.
    above = next((parent for parent in place.parents if parent.is_dir()), place.parent)
    lock = above / f".{'-'.join(place.relative_to(above).parts)}.lock"
    try:
        held = lock_current(lock)
    except BlockingIOError:
        raise FraudError(
            f"{option} {place}: another command is writing it; wait for its end, or give another "
            "place",
            Code.OUTPUT_IN_USE,
        ) from None
    except OSError:
        # Without locks, the command cannot write either and reports it.
        yield
        return
    try:
        with suppress(OSError):
            # Leftovers of a killed command.
            remove_unfinished_of(place)
        yield
    finally:
        lock.unlink(missing_ok=True)
        held.release()
