"""Append alerts to a file as JSON lines."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from beam_fraud.alerts.message import FIELDS, Message, message_records
from beam_fraud.alerts.policy import AS_THEY_COME, Policy
from beam_fraud.errors import Code, FraudError
from beam_fraud.storage.atomic import append_lines, check_writable, make_directory
from beam_fraud.storage.lock import lock_current


@dataclass(frozen=True)
class FileChannel:
    """Append one JSON object per line; `send` returns when the disk has them."""

    #: Absolute path of the file.
    path: Path
    #: Default: write each alert at once on its own line.
    policy: Policy = AS_THEY_COME
    #: Fields of an alert to write.
    fields: tuple[str, ...] = FIELDS

    @property
    def name(self) -> str:
        return f"file:{self.path}"

    @property
    def disk(self) -> Path:
        """The file itself."""
        return self.path

    def check(self) -> None:
        """Check that the file can be created or appended to.

        Raises:
          FraudError: the file cannot be written.
        """
        try:
            if not self.path.exists():
                check_writable(self.path.parent)
                return
            os.close(os.open(self.path, os.O_RDWR | os.O_APPEND))
        except OSError as error:
            raise self._failure(error) from None

    def send(self, message: Message) -> None:
        """Append the alerts, all or none, each on its own line.

        Raises:
          FraudError: the file system reports an error.
        """
        lines = b"".join(record + b"\n" for _, record in message_records(message, self.fields))
        make_directory(self.path.parent)
        try:
            # An erasure may have replaced the file since the last message.
            held = lock_current(
                self.path, wait=True, flags=os.O_RDWR | os.O_CREAT | os.O_APPEND, mode=0o666
            )
            try:
                append_lines(held.descriptor, lines)
            finally:
                held.release()
        except OSError as error:
            raise self._failure(error) from None

    def close(self) -> None: ...

    def describe(self) -> str:
        return self.name

    def _failure(self, error: OSError) -> FraudError:
        return FraudError(
            f"--alert {self.describe()}: cannot be written ({error.strerror})", Code.CHANNEL_FAILED
        )
