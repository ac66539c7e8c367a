"""Dead letters as messages: the record itself, and beside it why it is one."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

#: Bytes of a record that a message holds at most: with the headers less than the million that
#: brokers and clients take unless told otherwise.
MAX_BYTES = 900_000


@dataclass(frozen=True)
class DeadLetterMessage:
    """A dead letter as a message."""

    #: The record, or its first `MAX_BYTES`; empty where there is none.
    value: bytes
    #: `source`, `position`, `reason` and `detail`; where the record was cut `truncated`, its full
    #: length in bytes. All are text.
    headers: tuple[tuple[str, str], ...]


def dead_letter_messages(dead: pa.RecordBatch) -> list[DeadLetterMessage]:
    """One message a dead letter.

    Args:
      dead: n rows of the schema `stages.DEAD_LETTER`.
    """
    return [_message(**row) for row in dead.to_pylist()]


def _message(
    source: str, position: int, reason: str, detail: str | None, payload: bytes | None
) -> DeadLetterMessage:
    value = payload or b""
    headers = [("source", source), ("position", str(position)), ("reason", reason)]
    headers.append(("detail", detail or ""))
    if len(value) > MAX_BYTES:
        headers.append(("truncated", str(len(value))))
    return DeadLetterMessage(value[:MAX_BYTES], tuple(headers))
