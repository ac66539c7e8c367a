"""Alerts as JSON lines at the end of a file."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from beam_fraud.alerts.channels.message_json import message_records
from beam_fraud.alerts.message import FIELDS, Message
from beam_fraud.alerts.policy import AS_THEY_COME, Policy
from beam_fraud.errors import FraudError
from beam_fraud.storage.folder import check_writable, make_directory


@dataclass(frozen=True)
class FileChannel:
    """One JSON object a line, on the disk before `send` returns."""

    #: The file, absolute.
    path: Path
    #: By default as they come: every alert is a line of its own.
    policy: Policy = AS_THEY_COME
    #: What of an alert is written.
    fields: tuple[str, ...] = FIELDS

    @property
    def name(self) -> str:
        """`file:` and the absolute path."""
        return f"file:{self.path}"

    def check(self) -> None:
        """See that the file can be appended to, or made.

        Raises:
          FraudError: it cannot.
        """
        try:
            if not self.path.exists():
                check_writable(self.path.parent)
                return
            os.close(os.open(self.path, os.O_RDWR | os.O_APPEND))
        except OSError as error:
            raise self._failure(error) from None

    def send(self, message: Message) -> None:
        """Append its alerts: all of them or none, each on a line of its own.

        Raises:
          FraudError: the file system refuses.
        """
        lines = b"".join(record + b"\n" for _, record in message_records(message, self.fields))
        make_directory(self.path.parent)
        try:
            with _locked(self.path) as file:
                _append(file.fileno(), lines)
        except OSError as error:
            raise self._failure(error) from None

    def close(self) -> None:
        """Nothing is kept open."""

    def describe(self) -> str:
        """`file:` and the absolute path."""
        return self.name

    def _failure(self, error: OSError) -> FraudError:
        return FraudError(f"--alert {self.describe()}: cannot be written ({error.strerror})")


@contextmanager
def _locked(path: Path) -> Iterator[FileIO]:
    """The file that is at `path` once the lock is held: an erasure may have put another there."""
    while True:
        with open(path, "ab+", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield file
                return


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        # A pipe or a device has no disk to reach.
        if error.errno != errno.EINVAL:
            raise


def _append(descriptor: int, lines: bytes) -> None:
    end = os.fstat(descriptor).st_size
    torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
    rest = memoryview(b"\n" + lines if torn else lines)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        _sync(descriptor)
    except OSError:
        # A full disk takes a part of it: sent again, that part would be there twice.
        os.ftruncate(descriptor, end)
        raise
