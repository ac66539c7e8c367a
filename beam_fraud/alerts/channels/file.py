"""Alerts as JSON lines at the end of a file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from beam_fraud.alerts.channels.message_json import message_records
from beam_fraud.alerts.message import FIELDS, Message
from beam_fraud.alerts.policy import AS_THEY_COME, Policy
from beam_fraud.errors import FraudError
from beam_fraud.storage.atomic import append_lines
from beam_fraud.storage.folder import check_writable, make_directory
from beam_fraud.storage.lock import lock_current


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
            # An erasure may put another file there meanwhile.
            held = lock_current(
                self.path, wait=True, flags=os.O_RDWR | os.O_CREAT | os.O_APPEND, mode=0o666
            )
            try:
                append_lines(held.descriptor, lines)
            finally:
                held.release()
        except OSError as error:
            raise self._failure(error) from None

    def close(self) -> None:
        """Nothing is kept open."""

    def describe(self) -> str:
        """`file:` and the absolute path."""
        return self.name

    def _failure(self, error: OSError) -> FraudError:
        return FraudError(f"--alert {self.describe()}: cannot be written ({error.strerror})")
