"""The record of an erasure: what and when, not whose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from beam_fraud.errors import Code, FraudError
from beam_fraud.operations.erasure.subject import Accounts, Subject
from beam_fraud.storage.atomic import append_lines
from beam_fraud.storage.database.connection import writing
from beam_fraud.storage.database.tables import ERASURES
from beam_fraud.storage.database.upsert import upsert
from beam_fraud.wording import reason_of

#: File under `--out DIR` with a line per erasure.
RECORDS = "erasures.jsonl"


@dataclass(frozen=True)
class Erasure:
    """One call of `erase`, with one record per store."""

    #: Id of the erasure.
    erasure_id: str
    #: `account` or `retention`.
    kind: str
    #: Keyed hashes of the accounts, or the time before which rows were erased; None without a key.
    subject: str | None
    #: Start, UTC.
    erased_at: datetime

    @classmethod
    def of(cls, erasure_id: str, subject: Subject) -> Erasure:
        """Return an erasure of a subject that starts now."""
        if isinstance(subject, Accounts):
            label = " ".join(subject.pseudonyms) or None
        else:
            label = subject.moment.isoformat()
        return cls(erasure_id, subject.kind, label, datetime.now(UTC))

    def note_in_database(self, url: str, rows: Mapping[str, int]) -> None:
        """Write the record to the table `erasures`.

        Raises:
          FraudError: the database fails or cannot be reached.
        """
        with writing(url) as connection:
            upsert(connection, ERASURES, [self._row() | {"rows": _json(rows).decode()}])

    def note_in_directory(self, out: Path, rows: Mapping[str, int]) -> None:
        """Append the record to `DIR/erasures.jsonl`.

        Raises:
          FraudError: the file system reports an error.
        """
        path = out / RECORDS
        try:
            with open(path, "ab+", buffering=0) as file:
                append_lines(file.fileno(), _json(self._row() | {"rows": dict(rows)}) + b"\n")
        except OSError as error:
            raise FraudError(
                f"{path}: cannot be written ({reason_of(error)})", Code.OUTPUT_UNWRITABLE
            ) from None

    def _row(self) -> dict[str, object]:
        return {
            "erasure_id": self.erasure_id,
            "kind": self.kind,
            "subject": self.subject,
            "erased_at": self.erased_at,
        }


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)
