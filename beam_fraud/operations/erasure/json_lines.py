"""Erase lines from JSON-lines files, such as those of `--alert file:FILE`."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import msgspec

from beam_fraud.errors import Code, FraudError
from beam_fraud.operations.erasure.subject import Accounts, Before, Subject
from beam_fraud.storage.atomic import remove_unfinished_of, whole_file
from beam_fraud.storage.lock import lock_current
from beam_fraud.wording import reason_of


def erase_from_lines(file: Path, subject: Subject, *, dry_run: bool = False) -> int:
    """Erase a subject's alerts from a file, and other lines that contain an account's id.

    In a digest, one line of many alerts, only those are removed. The new file replaces the old one
    atomically.

    Returns:
      Number of alerts and lines removed, or to remove.

    Raises:
      FraudError: the file cannot be read or written.
    """
    try:
        # Alerts are appended under this lock.
        held = lock_current(file, wait=True, flags=os.O_RDONLY)
        with os.fdopen(held.descriptor, "rb") as lines:
            if not dry_run:
                # Leftover of a killed erasure, which contains rows to erase.
                remove_unfinished_of(file)
            erased = sum(_without(line, subject)[1] for line in lines)
            if not erased or dry_run:
                return erased
            lines.seek(0)
            mode = os.fstat(lines.fileno()).st_mode & 0o777
            with whole_file(file, mode=mode) as output:
                os.fchmod(output.fileno(), mode)
                output.writelines(_without(line, subject)[0] for line in lines)
        return erased
    except OSError as error:
        raise FraudError(
            f"{file}: lines cannot be taken out of it ({reason_of(error)})", Code.OUTPUT_UNWRITABLE
        ) from None


def refuse_other_files(file: Path) -> None:
    """Check that a file is JSON lines before anything is erased.

    In other files a word equal to the id means nothing: in a table of transactions, an account "1"
    would match each fraud.

    Raises:
      FraudError: it does not exist, cannot be read, or no line is a JSON object.
    """
    if not file.is_file():
        raise FraudError(f"{file}: is not a file", Code.INPUT_MISSING)
    try:
        with open(file, "rb") as lines:
            filled = (line for line in lines if line.strip())
            first = next(filled, None)
            if first is None or _is_object(first) or any(map(_is_object, filled)):
                return
    except OSError as error:
        raise FraudError(
            f"{file}: cannot be read ({reason_of(error)})", Code.INPUT_UNREADABLE
        ) from None
    raise FraudError(
        f"{file}: holds no JSON lines; give a file of `--alert file:FILE`", Code.PLACE_EMPTY
    )


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False


def _without(line: bytes, subject: Subject) -> tuple[bytes, int]:
    """Return the rest of a line, possibly empty, and the number of removed alerts."""
    try:
        record = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        record = None
    if isinstance(record, dict) and isinstance(record.get("alerts"), list):
        alerts = record["alerts"]
        rest = [alert for alert in alerts if not _goes(alert, subject)]
        if len(rest) == len(alerts):
            return line, 0
        return msgspec.json.encode(record | {"alerts": rest}) + b"\n", len(alerts) - len(rest)
    if isinstance(record, dict) and ("account_id" in record or isinstance(subject, Before)):
        return (b"", 1) if _goes(record, subject) else (line, 0)
    matches = isinstance(subject, Accounts) and subject.are_in(line)
    return (b"", 1) if matches else (line, 0)


def _goes(alert: object, subject: Subject) -> bool:
    """Return whether an alert, with its channel's fields, belongs to the subject."""
    if not isinstance(alert, dict):
        return False
    if isinstance(subject, Before):
        try:
            return msgspec.convert(alert.get("event_time"), datetime) < subject.moment
        except (msgspec.ValidationError, TypeError):
            # The time is missing or has no zone.
            return False
    if "account_id" in alert:
        matches = alert["account_id"] in subject.names
        if matches:
            subject.note([alert["account_id"]])
        return matches
    return subject.are_in(msgspec.json.encode(alert))
