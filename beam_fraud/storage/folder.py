"""Local directories that a run is going to write to."""

from __future__ import annotations

import tempfile
from pathlib import Path

from beam_fraud.errors import Code, FraudError
from beam_fraud.wording import reason_of


def check_writable(directory: Path) -> None:
    """See that files can be made in `directory`, or that it can be made; nothing stays behind.

    Raises:
      FraudError: a file is in the way, or the file system refuses.
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
    """Make `directory` and what is missing above it.

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
