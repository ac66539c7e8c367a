"""A group of answers as a change of a server's state."""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa

from beam_fraud.schema.stages import LATER_COLUMNS, completed
from beam_fraud.serve.answered_rows import ANSWERED, AnsweredRows, Rows
from beam_fraud.serve.input_rows import InputRows, Inputs
from beam_fraud.serve.recent_answers import LARGE
from beam_fraud.state.shard import rows_from_bytes, rows_to_bytes

#: First byte: a group of answers, or the last group as it was answered in the end; in lower case
#: where the rows are compressed. And a group as values instead of columns.
_GROUP, _AMENDED, _GROUP_OF_VALUES = b"H", b"B", b"W"
#: The same of earlier versions, whose rows are of `_EARLIER`.
_EARLIER_GROUP, _EARLIER_AMENDED, _EARLIER_OF_VALUES = b"G", b"A", b"V"
_EARLIER = pa.schema([field for field in ANSWERED if field.name not in LATER_COLUMNS])
#: First byte of the change after a group's: the kept inputs of its decisions, as columns and as
#: values.
_INPUTS, _INPUTS_OF_VALUES = b"I", b"J"
_ENCODER = msgspec.msgpack.Encoder()


def delta_of(answered: Rows, *, amended: bool = False) -> bytes:
    """Return a group as bytes.

    Args:
      answered: rows of `ANSWERED`.
      amended: whether they replace the group before, because some callers got another answer than
        was committed.
    """
    if isinstance(answered, AnsweredRows):
        return _GROUP_OF_VALUES + _ENCODER.encode(answered.values)
    kind = _AMENDED if amended else _GROUP
    if len(answered) < LARGE:
        return kind + bytes(answered.serialize())
    # The disk takes longer for a large group than its compression.
    return kind.lower() + rows_to_bytes(answered)


def is_amended(delta: bytes) -> bool:
    """Return whether a group replaces the one before."""
    return delta[:1].upper() in (_AMENDED, _EARLIER_AMENDED)


def answers_of(delta: bytes) -> Rows:
    """Return the rows of `delta_of`, of this or an earlier version."""
    kind = delta[:1]
    if kind == _GROUP_OF_VALUES:
        return AnsweredRows(msgspec.msgpack.decode(delta[1:]))
    if kind == _EARLIER_OF_VALUES:
        place = ANSWERED.get_field_index(LATER_COLUMNS[0])
        later = [None] * len(LATER_COLUMNS)
        rows: list[list[Any]] = msgspec.msgpack.decode(delta[1:])
        return AnsweredRows([row[:place] + later + row[place:] for row in rows])
    if kind.islower():
        return completed(rows_from_bytes(delta[1:]), ANSWERED)
    schema = _EARLIER if kind in (_EARLIER_GROUP, _EARLIER_AMENDED) else ANSWERED
    return completed(pa.ipc.read_record_batch(pa.py_buffer(delta[1:]), schema), ANSWERED)


def encoded_rows(delta: bytes) -> bytes | None:
    """Return the rows of a large group of this version by `rows_to_bytes`; None for others."""
    return delta[1:] if delta[:1] == _GROUP.lower() else None


def inputs_delta(inputs: Inputs) -> bytes:
    """Return the kept inputs of a group's decisions as bytes, for the change after the group's."""
    if isinstance(inputs, InputRows):
        return _INPUTS_OF_VALUES + inputs.to_bytes()
    return _INPUTS + rows_to_bytes(inputs)


def inputs_of(delta: bytes) -> Inputs | None:
    """Return the inputs of `inputs_delta`; None for a group."""
    if delta[:1] == _INPUTS_OF_VALUES:
        return InputRows.from_bytes(delta[1:])
    return rows_from_bytes(delta[1:]) if delta[:1] == _INPUTS else None
