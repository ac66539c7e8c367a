"""The directory of a trial server, which one server uses at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from beam_fraud.errors import Code, FraudError
from beam_fraud.storage.atomic import make_directory
from beam_fraud.wording import reason_of


@contextmanager
def held(data: Path) -> Iterator[None]:
    """Create the directory and lock it against other servers of this machine.

    Raises:
      FraudError: It can't be made or written to, or another server has it.
    """
    make_directory(data)
    try:
        descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise FraudError(
            f"--data {data}: cannot be written to ({reason_of(error)}); give another directory",
            Code.OUTPUT_UNWRITABLE,
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FraudError(
                f"--data {data}: another server has it; stop that one, or give another directory",
                Code.OUTPUT_IN_USE,
            ) from None
        yield
    finally:
        os.close(descriptor)
