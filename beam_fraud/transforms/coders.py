"""How the elements of the graph are encoded between stages that the runner does not fuse.

Beam measures a sample of all elements by encoding them, also where stages are fused and nothing is
ever encoded. Every coder here tells the size of its elements without that.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from apache_beam import coders
from apache_beam.ml.inference.base import PredictionResult

#: Batches below so many bytes are not compressed: to begin costs more than to write them.
_SMALL = 16_384
_PLAIN, _COMPRESSED = pa.ipc.IpcWriteOptions(), pa.ipc.IpcWriteOptions(compression="lz4")


class RecordBatchCoder(coders.Coder):
    """A record batch with its schema and metadata: an Arrow IPC stream of one batch.

    LZ4 takes a fifth of the time of Zstandard for twice the bytes, and a stream spends its time on
    batches of a few rows.
    """

    def encode(self, value: pa.RecordBatch) -> bytes:
        """Write the stream."""
        sink = pa.BufferOutputStream()
        options = _PLAIN if value.nbytes < _SMALL else _COMPRESSED
        with pa.ipc.new_stream(sink, value.schema, options=options) as writer:
            writer.write_batch(value)
        encoded: bytes = sink.getvalue().to_pybytes()
        return encoded

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        """Return the inverse of `encode`."""
        with pa.ipc.open_stream(encoded) as reader:
            return reader.read_next_batch()

    def estimate_size(self, value: pa.RecordBatch) -> int:
        """Bytes in memory."""
        return int(value.nbytes)

    def is_deterministic(self) -> bool:
        """Equal batches may be encoded differently, so they are no keys of a shuffle."""
        return False

    def to_type_hint(self) -> Any:
        """Return what is coded."""
        return pa.RecordBatch


class BlockCoder(coders.Coder):
    """An array of numbers, in NumPy's own format without pickle."""

    def encode(self, value: npt.NDArray[Any]) -> bytes:
        """Write the array with its shape and type."""
        sink = io.BytesIO()
        np.save(sink, value, allow_pickle=False)
        return sink.getvalue()

    def decode(self, encoded: bytes) -> npt.NDArray[Any]:
        """Return the inverse of `encode`."""
        block: npt.NDArray[Any] = np.load(io.BytesIO(encoded), allow_pickle=False)
        return block

    def estimate_size(self, value: npt.NDArray[Any]) -> int:
        """Bytes in memory."""
        return value.nbytes

    def is_deterministic(self) -> bool:
        """Equal arrays are encoded alike."""
        return True

    def to_type_hint(self) -> Any:
        """Return what is coded."""
        return np.ndarray


class PredictionCoder(coders.Coder):
    """A prediction over a block: its features and its scores, one array after the other."""

    def __init__(self) -> None:
        self._coder = coders.TupleCoder((BlockCoder(), BlockCoder(), coders.StrUtf8Coder()))

    def encode(self, value: PredictionResult) -> bytes:
        """Write both arrays and the name of the model's file."""
        encoded: bytes = self._coder.encode((value.example, value.inference, value.model_id or ""))
        return encoded

    def decode(self, encoded: bytes) -> PredictionResult:
        """Return the inverse of `encode`."""
        example, inference, model = self._coder.decode(encoded)
        return PredictionResult(example, inference, model or None)

    def estimate_size(self, value: PredictionResult) -> int:
        """Bytes in memory."""
        return int(value.example.nbytes + value.inference.nbytes)

    def is_deterministic(self) -> bool:
        """Equal predictions are encoded alike."""
        return True

    def to_type_hint(self) -> Any:
        """Return what is coded."""
        return PredictionResult


for _coder in (RecordBatchCoder, BlockCoder, PredictionCoder):
    coders.registry.register_coder(_coder().to_type_hint(), _coder)
