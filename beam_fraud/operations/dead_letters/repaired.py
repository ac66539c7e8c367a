"""Export dead letters as JSON lines for repair, and read the repaired records."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import pyarrow as pa

from beam_fraud.errors import Code, FraudError
from beam_fraud.storage.atomic import make_directory, remove_unfinished_of, whole_file
from beam_fraud.wording import reason_of


@dataclass(frozen=True)
class Repaired:
    """A record of a repaired file."""

    #: Number of its line, from 1.
    line: int
    #: The source of the dead letter that it was.
    source: str
    #: Its position there.
    position: int
    #: The repaired record.
    payload: bytes


class _Line(msgspec.Struct):
    source: str
    position: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    payload: str | None = None
    payload_base64: str | None = None


def json_line(source: str, position: int, reason: str, detail: str, payload: bytes | None) -> bytes:
    """Return a dead letter as one line; a payload that is not UTF-8 as `payload_base64`."""
    row: dict[str, object] = {
        "source": source,
        "position": position,
        "reason": reason,
        "detail": detail,
    }
    try:
        row["payload"] = None if payload is None else payload.decode()
    except UnicodeDecodeError:
        row["payload_base64"] = base64.b64encode(payload or b"").decode()
    return msgspec.json.encode(row) + b"\n"


def write_json_lines(file: Path, batches: Iterable[pa.RecordBatch]) -> int:
    """Write dead letters to a new file, readable by its owner alone, atomically.

    Args:
      file: path of a file that must not exist.
      batches: rows with the columns of `stages.DEAD_LETTER`.

    Returns:
      The number of rows.

    Raises:
      FraudError: the file exists, perhaps with repairs, or cannot be written.
    """
    if file.exists():
        raise FraudError(f"--to {file}: is there already; give a new file", Code.OUTPUT_OCCUPIED)
    make_directory(file.parent)
    rows = 0
    try:
        remove_unfinished_of(file)
        with whole_file(file, mode=0o600) as out:
            for batch in batches:
                for row in batch.to_pylist():
                    row.pop("replayed", None)
                    out.write(json_line(**row))
                rows += len(batch)
    except OSError as error:
        raise FraudError(
            f"--to {file}: cannot be written ({reason_of(error)})", Code.OUTPUT_UNWRITABLE
        ) from None
    return rows


def read_repaired(file: Path) -> Iterator[Repaired]:
    """Yield the records of a repaired file; skip empty lines.

    Raises:
      FraudError: the file cannot be read, or a line has another form than `write_json_lines`
        writes.
    """
    decoder = msgspec.json.Decoder(_Line)
    try:
        with open(file, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _repaired(decoder, file, number, line)
    except OSError as error:
        raise FraudError(
            f"--from {file}: cannot be read ({reason_of(error)})", Code.INPUT_UNREADABLE
        ) from None


def _repaired(
    decoder: msgspec.json.Decoder[_Line], file: Path, number: int, line: bytes
) -> Repaired:
    try:
        record = decoder.decode(line)
        if (record.payload is None) == (record.payload_base64 is None):
            raise FraudError(
                f"--from {file}: line {number}: give either `payload` or `payload_base64`",
                Code.REPAIRED_INVALID,
            )
        if record.payload is not None:
            payload = record.payload.encode()
        else:
            payload = base64.b64decode(record.payload_base64 or "", validate=True)
    except msgspec.ValidationError as error:
        # The error names the member and the types, no value.
        raise FraudError(f"--from {file}: line {number}: {error}", Code.REPAIRED_INVALID) from None
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise FraudError(
            f"--from {file}: line {number}: is not a JSON object", Code.REPAIRED_INVALID
        ) from None
    except binascii.Error:
        raise FraudError(
            f"--from {file}: line {number}: payload_base64 is not base64", Code.REPAIRED_INVALID
        ) from None
    return Repaired(number, record.source, record.position, payload)
