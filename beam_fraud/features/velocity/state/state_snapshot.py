"""Encode a velocity state: one Arrow IPC record batch after a header."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.errors import Code, FraudError
from beam_fraud.features.event_clock import NEVER, ClockState
from beam_fraud.features.velocity.key_rows import Frauds, KeyRows
from beam_fraud.schema.velocity import Velocity

_VERSION = "1"
_HEADER = b"velocity_state"


@dataclass(frozen=True)
class StateContent:
    """Contents of a snapshot."""

    #: State of the event clock.
    clock: ClockState
    #: Rows, each key's by time and arrival; amounts are 0 if not stored.
    rows: KeyRows
    #: Known frauds with an id.
    frauds: Frauds
    #: Known frauds without an id.
    nameless: Frauds


def to_bytes(
    specs: Sequence[Velocity],
    clock: ClockState,
    rows: KeyRows,
    frauds: tuple[Frauds, Frauds] | None,
) -> bytes:
    """Encode a state.

    Args:
      specs: the definitions.
      clock: state of the event clock.
      rows: all rows, grouped by key.
      frauds: those with an id and those without, or None if none are counted.
    """
    starts = np.flatnonzero(np.diff(rows.key, prepend=~rows.key[:1]))
    columns: dict[str, npt.NDArray[np.generic] | None] = {
        "key": rows.key[starts],
        "key_rows": np.diff(starts, append=len(rows)),
        "time": rows.time,
        "amount": rows.amount,
        "merchant": rows.merchant,
    }
    for name, part in zip(("fraud", "nameless"), frauds or (), strict=False):
        columns |= {
            f"{name}_key": part.key,
            f"{name}_time": part.time,
            f"{name}_visible": part.visible,
            f"{name}_transaction": part.transaction,
        }
    header = {
        "version": _VERSION,
        "clock": msgspec.to_builtins(clock),
        "specs": [spec.to_dict() for spec in specs],
    }
    # One row of list columns, because their lengths differ.
    arrays = {
        name: pa.LargeListArray.from_arrays(
            pa.array([0, len(values)], pa.int64()), pa.array(values)
        )
        for name, values in columns.items()
        if values is not None
    }
    schema = pa.schema(
        [(name, array.type) for name, array in arrays.items()],
        metadata={_HEADER: json.dumps(header)},
    )
    batch = pa.record_batch(list(arrays.values()), schema=schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(batch)
    return bytes(memoryview(sink.getvalue()))


def from_bytes(data: bytes, specs: Sequence[Velocity]) -> StateContent:
    """Decode a snapshot; the inverse of `to_bytes`.

    Raises:
      FraudError: it is damaged, of another version or of other definitions.
    """
    try:
        with pa.ipc.open_stream(data) as reader:
            header = json.loads((reader.schema.metadata or {})[_HEADER])
            batch = reader.read_next_batch()
    except (pa.ArrowException, StopIteration, KeyError, ValueError) as error:
        raise FraudError(
            f"velocity state: no snapshot of one, or damaged ({error})", Code.STATE_UNREADABLE
        ) from None
    if header["version"] != _VERSION:
        raise FraudError(
            f"velocity state: snapshot of version {header['version']}, this program reads "
            f"{_VERSION}: rebuild it from the archive",
            Code.STATE_UNREADABLE,
        )
    if header["specs"] != [spec.to_dict() for spec in specs]:
        raise FraudError(
            "velocity state: snapshot of other velocity definitions than the model's: "
            "rebuild it from the archive",
            Code.STREAM_CHANGED,
        )
    columns = {
        name: batch.column(name).values.to_numpy(zero_copy_only=False)
        for name in batch.schema.names
    }
    return StateContent(
        _clock(header), _rows(columns), _frauds(columns, "fraud"), _frauds(columns, "nameless")
    )


def _clock(header: dict[str, Any]) -> ClockState:
    if "clock" not in header:
        # Older snapshots store the newest row's time, which may have been far ahead.
        return ClockState(NEVER, [], [])
    return msgspec.convert(header["clock"], ClockState)


def _rows(columns: dict[str, npt.NDArray[np.int64]]) -> KeyRows:
    nothing = np.zeros(0, dtype=np.int64)
    time = columns.get("time", nothing)
    key = np.repeat(columns.get("key", nothing), columns.get("key_rows", nothing))
    amount = columns.get("amount", np.zeros(len(time), dtype=np.int64))
    merchant = columns.get("merchant")
    return KeyRows(
        key.astype(np.uint64), time, amount, None if merchant is None else merchant.view(np.uint64)
    )


def _frauds(columns: dict[str, npt.NDArray[np.int64]], name: str) -> Frauds:
    nothing = np.zeros(0, dtype=np.int64)
    key, time, visible = (
        columns.get(f"{name}_{column}", nothing) for column in ("key", "time", "visible")
    )
    transaction = columns.get(f"{name}_transaction")
    return Frauds(
        key.astype(np.uint64),
        time,
        visible,
        None,
        None if transaction is None else transaction.astype(np.uint64),
    )
