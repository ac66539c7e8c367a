"""Temporary directories of this machine: locked while in use, removed by the next run if killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from beam_fraud.storage.lock import FileLock, lock_current

_PREFIX = "beam-fraud-held-"
#: A link that somebody else left there is never followed.
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """Yield a new directory in `TMPDIR`, which is removed at the end.

    Those that killed processes left there are removed first.

    Raises:
      OSError: the directory cannot be made.
    """
    _remove_abandoned(Path(tempfile.gettempdir()))
    directory, held = _claimed()
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        if held is not None:
            held.release()


def _claimed() -> tuple[Path, FileLock | None]:
    """Return a new directory with its lock, or with None where nothing can be locked."""
    while True:
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
        try:
            return directory, lock_current(directory, flags=_DIRECTORY)
        except (BlockingIOError, FileNotFoundError):
            # Another process took it for an abandoned one in between.
            continue
        except OSError:
            # No process can lock it, so none removes it.
            return directory, None


def _remove_abandoned(parent: Path) -> None:
    for directory in parent.glob(f"{_PREFIX}*"):
        try:
            held = lock_current(directory, flags=_DIRECTORY)
        except OSError:
            # It is in use, gone, or not ours.
            continue
        try:
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            held.release()
