"""Check and create local directories."""

from __future__ import annotations

import tempfile
from pathlib import Path

from beam_fraud.errors import Code, FraudError
from beam_fraud.platform.wording import reason_of


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
