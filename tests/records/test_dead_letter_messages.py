"""The message of a dead letter is the record; its headers have the reason."""

from __future__ import annotations

import pyarrow as pa

from beam_fraud.records.messages import MAX_BYTES, dead_letter_messages
from beam_fraud.schema.stages import DEAD_LETTER


def headers_of(payload: bytes | None, detail: str | None = "id: none") -> tuple[bytes, dict]:
    row = {
        "source": "transactions:3",
        "position": 17,
        "reason": "missing_id",
        "detail": detail,
        "payload": payload,
    }
    (message,) = dead_letter_messages(pa.RecordBatch.from_pylist([row], DEAD_LETTER))
    return message.value, dict(message.headers)


def test_the_record_is_the_message_untouched() -> None:
    value, headers = headers_of(b"\xff{not JSON\0")
    assert value == b"\xff{not JSON\0"
    assert headers == {
        "source": "transactions:3",
        "position": "17",
        "reason": "missing_id",
        "detail": "id: none",
    }


def test_a_long_record_is_cut_and_the_message_says_so() -> None:
    assert headers_of(b"x" * MAX_BYTES)[1].get("truncated") is None
    value, headers = headers_of(b"x" * (MAX_BYTES + 1))
    assert len(value) == MAX_BYTES
    assert headers["truncated"] == str(MAX_BYTES + 1)


def test_absent_values_are_empty() -> None:
    value, headers = headers_of(None, None)
    assert (value, headers["detail"]) == (b"", "")
