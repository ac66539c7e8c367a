"""Lines taken out of files of JSON lines, as the alerts of `--alert file:FILE` are."""

from __future__ import annotations

import fcntl
import os
from datetime import datetime
from pathlib import Path

import msgspec

from beam_fraud.erasure.subject import Accounts, Subject
from beam_fraud.errors import FraudError
from beam_fraud.sinks.folder import reason_of


class _Alert(msgspec.Struct):
    alert_id: str
    account_id: str | None = None
    event_time: datetime | None = None


_DECODER = msgspec.json.Decoder(_Alert)


def erase_from_lines(file: Path, subject: Subject, *, dry_run: bool = False) -> int:
    """Take lines out of a file: alerts of the subject, and other lines that hold an account's id.

    The new file appears whole, in the place of the old one.

    Returns:
      The number of lines that went, or would go.

    Raises:
      FraudError: the file cannot be read or written.
    """
    unfinished = file.with_name(f".{file.name}.unfinished")
    try:
        with open(file, "rb") as lines:
            # Alerts are appended under this lock.
            fcntl.flock(lines, fcntl.LOCK_EX)
            gone = sum(_goes(line, subject) for line in lines)
            if not gone or dry_run:
                return gone
            lines.seek(0)
            mode = os.fstat(lines.fileno()).st_mode & 0o777
            with open(
                unfinished, "wb", opener=lambda path, flags: os.open(path, flags, mode)
            ) as to:
                to.writelines(line for line in lines if not _goes(line, subject))
                to.flush()
                os.fsync(to.fileno())
            unfinished.rename(file)
        return gone
    except OSError as error:
        raise FraudError(f"{file}: lines cannot be taken out of it ({reason_of(error)})") from None
    finally:
        unfinished.unlink(missing_ok=True)


def _goes(line: bytes, subject: Subject) -> bool:
    try:
        alert = _DECODER.decode(line)
    except (msgspec.MsgspecError, UnicodeError):
        return isinstance(subject, Accounts) and subject.tokens.search(line) is not None
    if isinstance(subject, Accounts):
        return alert.account_id in subject.names
    return alert.event_time is not None and alert.event_time < subject.moment
