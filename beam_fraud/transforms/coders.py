"""Coders for elements between stages that the runner does not fuse.

Beam measures a sample of all elements by encoding them, even where fused stages never encode
anything. Every coder here computes the size without encoding.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from apache_beam import coders
from apache_beam.ml.inference.base import PredictionResult

#: Minimum bytes of a compressed batch: for smaller ones, the set-up costs more than it saves.
_SMALL = 16_384
_PLAIN, _COMPRESSED = pa.ipc.IpcWriteOptions(), pa.ipc.IpcWriteOptions(compression="lz4")


class RecordBatchCoder(coders.Coder):
    """A record batch with its schema and metadata: an Arrow IPC stream of one batch.

    LZ4 takes a fifth of Zstandard's time for twice the bytes, and a stream spends its time on
    batches of a few rows.
    """

    def encode(self, value: pa.RecordBatch) -> bytes:
        sink = pa.BufferOutputStream()
        options = _PLAIN if value.nbytes < _SMALL else _COMPRESSED
        with pa.ipc.new_stream(sink, value.schema, options=options) as writer:
            writer.write_batch(value)
        encoded: bytes = sink.getvalue().to_pybytes()
        return encoded

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        with pa.ipc.open_stream(encoded) as reader:
            return reader.read_next_batch()

    def estimate_size(self, value: pa.RecordBatch) -> int:
        return int(value.nbytes)

    def is_deterministic(self) -> bool:
        """Return False: equal batches may be encoded differently, so they are no keys."""
        return False

    def to_type_hint(self) -> Any:
        return pa.RecordBatch


class BlockCoder(coders.Coder):
    """An array of numbers in NumPy's own format, without pickle."""

    def encode(self, value: npt.NDArray[Any]) -> bytes:
        sink = io.BytesIO()
        np.save(sink, value, allow_pickle=False)
        return sink.getvalue()

    def decode(self, encoded: bytes) -> npt.NDArray[Any]:
        block: npt.NDArray[Any] = np.load(io.BytesIO(encoded), allow_pickle=False)
        return block

    def estimate_size(self, value: npt.NDArray[Any]) -> int:
        return value.nbytes

    def is_deterministic(self) -> bool:
        return True

    def to_type_hint(self) -> Any:
        return np.ndarray


class PredictionCoder(coders.Coder):
    """A prediction of a block: its features, then its scores."""

    def __init__(self) -> None:
        self._coder = coders.TupleCoder((BlockCoder(), BlockCoder(), coders.StrUtf8Coder()))

    def encode(self, value: PredictionResult) -> bytes:
        encoded: bytes = self._coder.encode((value.example, value.inference, value.model_id or ""))
        return encoded

    def decode(self, encoded: bytes) -> PredictionResult:
        example, inference, model = self._coder.decode(encoded)
        return PredictionResult(example, inference, model or None)

    def estimate_size(self, value: PredictionResult) -> int:
        return int(value.example.nbytes + value.inference.nbytes)

    def is_deterministic(self) -> bool:
        return True

    def to_type_hint(self) -> Any:
        return PredictionResult


for _coder in (RecordBatchCoder, BlockCoder, PredictionCoder):
    coders.registry.register_coder(_coder().to_type_hint(), _coder)
