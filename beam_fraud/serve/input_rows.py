"""Kept inputs of decisions as values, which become columns when they are needed.

Columns of one row take longer than its decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, groupby, repeat
from typing import TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from beam_fraud.decisions.inputs import RULE_NAMES, InputColumns, InputValues
from beam_fraud.decisions.rules.condition import Kind
from beam_fraud.schema.schema import EVENT_TIME

_ENCODER = msgspec.msgpack.Encoder()
#: The parts of `InputColumns`, and a group.
_DECODER = msgspec.msgpack.Decoder(
    tuple[tuple[tuple[str, ...], tuple[tuple[str, Kind], ...], tuple[str, ...], bool], InputValues]
)


@dataclass(frozen=True)
class InputRows:
    """The kept inputs of rows that were decided together."""

    #: Their columns.
    columns: InputColumns
    #: Their values.
    values: InputValues

    def __len__(self) -> int:
        return self.values.rows

    @property
    def schema(self) -> pa.Schema:
        """The schema of the rows as columns."""
        return self.columns.schema

    def to_bytes(self) -> bytes:
        """Return them as MessagePack."""
        return _ENCODER.encode((_encoded(self.columns), self.values))

    @classmethod
    def from_bytes(cls, data: bytes) -> InputRows:
        """Return the inverse of `to_bytes`."""
        columns, values = _DECODER.decode(data)
        return cls(InputColumns(*columns), values)


#: Type: kept inputs of n rows, as columns or as values.
Inputs: TypeAlias = pa.RecordBatch | InputRows


def inputs_batch(parts: Sequence[Inputs]) -> pa.RecordBatch:
    """Return the rows of some parts, whose columns are alike, as columns."""
    batches = list[pa.RecordBatch]()
    for of_values, alike in groupby(parts, lambda part: isinstance(part, InputRows)):
        several = list(alike)
        batches += [_joined(several)] if of_values else several
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


@lru_cache(maxsize=16)
def _encoded(columns: InputColumns) -> msgspec.Raw:
    """Return the parts of columns as MessagePack."""
    parts = columns.features, columns.read, columns.listings, columns.ruled
    return msgspec.Raw(_ENCODER.encode(parts))


def _joined(parts: Sequence[InputRows]) -> pa.RecordBatch:
    columns, groups = parts[0].columns, [part.values for part in parts]
    rows = [group.rows for group in groups]
    times = np.repeat(np.array([group.decided_at for group in groups], dtype=np.int64), rows)
    members = zip(*(group.read for group in groups), strict=True)
    # Not a number is a value.
    read = [
        pa.array([*chain.from_iterable(values)], field.type, from_pandas=False)
        for field, values in zip(columns.rule_inputs, members, strict=True)
    ]
    muted = None
    if any(group.muted is not None for group in groups):
        names = (group.muted or repeat(None, group.rows) for group in groups)
        muted = pa.array([*chain.from_iterable(names)], RULE_NAMES)
    block = np.frombuffer(b"".join(group.features for group in groups), dtype="<f8")
    before = columns.before_features(pa.array(times).view(EVENT_TIME), read, muted)
    features = columns.of_features(block.reshape(sum(rows), len(columns.features)))
    return pa.RecordBatch.from_arrays([*before, features], schema=columns.schema)
