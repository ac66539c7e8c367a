"""The interface of a shard of a stateful step: input, output, state, and rows in the state."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from beam_fraud.errors import Code, FraudError
from beam_fraud.storage.checkpoint import FOREVER

#: Header: uncompressed size, which LZ4 does not store.
_SIZE = struct.Struct("<Q")


@dataclass(frozen=True)
class Delta:
    """A piece of a shard's state."""

    #: Encoded by the shard.
    data: bytes
    #: Newest event time in it (microseconds), which decides its expiry (`Shard.needed_from`);
    #: `FOREVER` if it is needed until replaced.
    newest: int = FOREVER


@dataclass(frozen=True)
class Effects:
    """The result of a call: rows for the next step, and state to commit."""

    #: Rows to emit.
    rows: Sequence[pa.RecordBatch] = ()
    #: New state beside the committed one.
    deltas: Sequence[Delta] = ()
    #: Whether `deltas` replace all earlier state.
    replaces: bool = False
    #: Actions after the commit, in any order; lost if the process dies just then. Only hosts that
    #: are notified of the commit run them.
    afterwards: Sequence[Callable[[], None]] = ()


class Shard(Protocol):
    """One shard of a step, decoded in memory.

    Its host (`transforms.stateful`) calls `restore` first, once, and commits the deltas of every
    call in order, in one transaction with the results of the rows. After a failure a new shard is
    restored from the last commit and gets the later batches again: it must return the same results.
    """

    @property
    def needed_from(self) -> int:
        """Deltas whose `newest` is before this (event time, microseconds) may be dropped."""

    @property
    def waiting(self) -> bool:
        """Return whether `tick` must be called even without input."""

    def restore(self, deltas: Sequence[bytes]) -> Effects:
        """Restore the committed deltas in order; none for a new shard.

        Raises:
          FraudError: it cannot be read, or has other options.
        """

    def take(self, batch: pa.RecordBatch) -> Effects:
        """Process the next batch."""

    def tick(self, now: float) -> Effects:
        """Process the passage of time; `now` is in seconds of the epoch. Called now and then."""

    def finish(self) -> Effects:
        """Process the end of the stream; no call follows."""

    def merge(self, deltas: Sequence[bytes]) -> bytes:
        """Merge deltas, in their order, to one; never called for `FOREVER`."""


class Unaged:
    """The part of a `Shard` whose deltas are all `FOREVER`."""

    @property
    def needed_from(self) -> int:
        """No delta may be dropped."""
        return -(1 << 63)

    def merge(self, deltas: Sequence[bytes]) -> bytes:
        """Never called: deltas of `FOREVER` are not merged."""
        raise NotImplementedError("deltas that never expire are not merged")


def rows_to_bytes(batch: pa.RecordBatch) -> bytes:
    """Encode a batch with schema and metadata: an Arrow IPC stream, LZ4 as a whole.

    Arrow would compress each buffer separately, which takes three times as long for a hundred rows.
    """
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    stream = sink.getvalue()
    packed: bytes = pa.compress(stream, codec="lz4", asbytes=True)
    return _SIZE.pack(stream.size) + packed


def rows_from_bytes(data: bytes) -> pa.RecordBatch:
    """Return the inverse of `rows_to_bytes`.

    Raises:
      FraudError: the bytes are damaged.
    """
    try:
        (size,) = _SIZE.unpack_from(data)
        stream = pa.decompress(memoryview(data)[_SIZE.size :], size, codec="lz4")
        with pa.ipc.open_stream(stream) as reader:
            return reader.read_next_batch()
    except (pa.ArrowException, OSError, MemoryError, StopIteration, struct.error):
        raise FraudError(
            "the stream's state: rows kept there are damaged; start again with another --out",
            Code.STATE_UNREADABLE,
        ) from None
