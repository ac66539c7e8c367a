"""A file of records in which each append is one write of one block that the file already has.

A file that grows makes its file system write metadata with every flush, which takes a multiple of
the time and waits for other files. So the file is filled with zeros in advance, and a new
generation of records begins at its start, over those of the last.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from zlib import crc32

from beam_fraud.errors import Code, FraudError
from beam_fraud.storage.atomic import start_to_write, sync_data, sync_path

#: Bytes by which the file grows.
_CHUNK = 8 << 20
#: Before each record: generation, length and checksum of these and the record.
_HEADER = struct.Struct("<QII")
_CHECKED = struct.Struct("<QI")


class JournalFile:
    """Records of one generation, in the order of their appends.

    Records of other generations, and what a crash left of an append, are no records.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises:
          FraudError: it cannot be read or written.
        """
        self.path = path
        #: Place of the next record, and generation of the records.
        self._place = self._generation = 0
        try:
            created = not path.exists()
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._size = os.fstat(self._descriptor).st_size
            if created:
                sync_path(path.parent)
        except OSError as error:
            raise self._unwritable(error) from None

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def reserve(self) -> None:
        """Fill a new file with zeros, which takes as long as hundreds of appends.

        Raises:
          FraudError: the disk does not take them.
        """
        if self._size:
            return
        try:
            self._grow(1)
            sync_data(self._descriptor)
        except OSError as error:
            raise self._unwritable(error) from None

    def begin(self, generation: int) -> None:
        """Begin a generation, or return to the start of this one; nothing is written.

        Args:
          generation: number from 1 on that no earlier generation has.
        """
        self._place, self._generation = 0, generation

    def read(self) -> Iterator[bytes]:
        """Yield the records of the generation from its start; the next append follows them.

        Raises:
          FraudError: the file cannot be read, or a record before others is damaged.
        """
        try:
            data = os.pread(self._descriptor, self._size, 0)
        except OSError as error:
            raise FraudError(
                f"{self.path}: cannot be read ({error.strerror})", Code.STATE_UNREADABLE
            ) from None
        self._place = 0
        while (record := self._record(data, self._place)) is not None:
            self._place += _HEADER.size + len(record)
            yield record
        # A crash leaves a part of the last append, and nothing after it.
        begin = _HEADER.pack(self._generation, 0, 0)[:8]
        place = self._place
        while (place := data.find(begin, place + 1)) >= 0:
            if self._record(data, place) is not None:
                raise FraudError(
                    f"{self.path}: the journal is damaged; start again with another --state and "
                    "--history",
                    Code.STATE_UNREADABLE,
                )

    def _record(self, data: bytes, place: int) -> bytes | None:
        """Return the record at a place, or None."""
        start = place + _HEADER.size
        if start > len(data):
            return None
        generation, length, checksum = _HEADER.unpack_from(data, place)
        record = data[start : start + length]
        whole = generation == self._generation and 0 < length == len(record)
        return record if whole and _checksum(generation, record) == checksum else None

    def append(self, record: bytes, meanwhile: Callable[[], None] | None = None) -> None:
        """Append a record, flushed to the disk.

        Args:
          record: the record.
          meanwhile: called while the disk takes it, if there is anything to do; must not raise.

        Raises:
          FraudError: the disk does not take it; it is no record then.
        """
        data = (
            _HEADER.pack(self._generation, len(record), _checksum(self._generation, record))
            + record
        )
        end = self._place + len(data)
        try:
            if end > self._size:
                self._grow(end)
            written = 0
            while written < len(data):
                written += os.pwrite(self._descriptor, data[written:], self._place + written)
            if meanwhile is not None:
                start_to_write(self._descriptor, self._place, len(data))
                meanwhile()
            sync_data(self._descriptor)
        except OSError as error:
            raise self._unwritable(error) from None
        self._place = end

    def _grow(self, end: int) -> None:
        size = -(-end // _CHUNK) * _CHUNK
        zeros = bytes(1 << 20)
        while self._size < size:
            self._size += os.pwrite(self._descriptor, zeros, self._size)
        os.truncate(self._descriptor, size)
        self._size = size

    def _unwritable(self, error: OSError) -> FraudError:
        return FraudError(
            f"{self.path}: the stream's state cannot be written ({error.strerror})",
            Code.OUTPUT_UNWRITABLE,
        )


def _checksum(generation: int, record: bytes) -> int:
    return crc32(record, crc32(_CHECKED.pack(generation, len(record))))
