"""Encode rows compactly, whether few or many."""

from __future__ import annotations

import struct

import pyarrow as pa

from beam_fraud.errors import Code, FraudError

#: Header: uncompressed size, which LZ4 does not store.
_SIZE = struct.Struct("<Q")


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
