"""A text file as a stream of decompressed bytes."""

from __future__ import annotations

from types import TracebackType

import pyarrow as pa

from beam_fraud.errors import Code, FraudError
from beam_fraud.platform.wording import first_line
from beam_fraud.sources.file_format import FileFormat
from beam_fraud.sources.filesystem import open_file
from beam_fraud.storage.urls import Place

_SKIP_BYTES = 1 << 20


class TextStream:
    """Read the bytes `[start, stop)` of a file's text.

    Raises:
      FraudError: the file cannot be opened, or its compressed data are damaged or truncated.
    """

    def __init__(
        self, place: Place, file_format: FileFormat, start: int = 0, stop: int | None = None
    ) -> None:
        self._place = place
        self._file = open_file(place)
        self._stream = self._file
        if file_format.compression:
            self._stream = pa.CompressedInputStream(self._file, file_format.compression)
        self._left = None if stop is None else stop - start
        if start and not file_format.compression:
            self._stream.seek(start)
        elif start:
            self._skip(start)

    def __enter__(self) -> TextStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes; none at the end."""
        if self._left is not None:
            size = min(size, self._left)
        try:
            # Buffers of `read` leak if the compressed data are damaged.
            data: bytes = self._stream.read_buffer(size).to_pybytes()
        except OSError as error:
            raise FraudError(
                f"{self._place}: is damaged or cut off: {first_line(error)}", Code.INPUT_DAMAGED
            ) from None
        if self._left is not None:
            self._left -= len(data)
        return data

    def _skip(self, size: int) -> None:
        while size and (data := self.read(min(size, _SKIP_BYTES))):
            size -= len(data)
