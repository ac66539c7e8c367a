"""Blocks of Avro object container files, decompressed within a memory limit.

The format is that of https://avro.apache.org/docs/1.12.0/specification/#object-container-files.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from beam_fraud.errors import Code, FraudError

#: First bytes of a file, and bytes of its mark after the header and after each block.
MAGIC, SYNC_BYTES = b"Obj\x01", 16
#: Maximum bytes of the header, which holds the schema.
_MAX_HEADER_BYTES = 16 << 20
#: Bytes of a number at most, and of the two before a block.
_NUMBER_BYTES, _BEGINNING_BYTES = 10, 20
#: Memory that XZ may use.
_XZ_BYTES = 256 << 20


@dataclass(frozen=True)
class Header:
    """The header of a file."""

    #: The schema of the rows, JSON.
    schema: bytes
    #: Name of the compression.
    codec: str
    #: The mark after each block.
    sync: bytes
    #: Byte offset of the first block.
    end: int


@dataclass(frozen=True)
class Block:
    """Place of a block in its file."""

    #: Byte offset of the block, and of the byte after it.
    start: int
    stop: int
    #: Number of rows.
    rows: int
    #: Byte offset of the compressed rows, and their number of bytes.
    data: int
    stored: int


def read_header(place: str, source: pa.NativeFile) -> Header:
    """Read the header of an opened file.

    Args:
      place: the file, for messages.
      source: the file; its position moves.

    Raises:
      FraudError: the compression is unknown.
      ValueError: the header is damaged.
    """
    size = 1 << 14
    while True:
        source.seek(0)
        data = source.read(size)
        try:
            header = _header(data)
            break
        except IndexError:
            if len(data) < size or size >= _MAX_HEADER_BYTES:
                raise ValueError("the header has no end") from None
            size *= 16
    if header.codec not in _CODECS:
        known = ", ".join(_CODECS)
        raise FraudError(
            f"{place}: is compressed by {header.codec!a:.40}; write it with one of {known}",
            Code.INPUT_FORMAT,
        )
    return header


def _header(data: bytes) -> Header:
    if not data.startswith(MAGIC):
        raise ValueError("it does not begin as an Avro file")
    entries: dict[bytes, bytes] = {}
    at = len(MAGIC)
    while True:
        count, at = number_at(data, at)
        if count < 0:
            # The bytes of the entries follow.
            count, (_, at) = -count, number_at(data, at)
        if count == 0:
            break
        for _ in range(count):
            name, at = _bytes_at(data, at)
            entries[name], at = _bytes_at(data, at)
    if at + SYNC_BYTES > len(data):
        raise IndexError
    if b"avro.schema" not in entries:
        raise ValueError("the header has no schema")
    codec = entries.get(b"avro.codec", b"null").decode("utf-8", "backslashreplace")
    sync = data[at : at + SYNC_BYTES]
    return Header(entries[b"avro.schema"], codec, sync, at + SYNC_BYTES)


def number_at(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at an offset, and the offset after it.

    Example:
      >>> number_at(number(-300), 0)
      (-300, 2)

    Raises:
      IndexError: the data end before.
      ValueError: the number is too long.
    """
    value = 0
    for place in range(_NUMBER_BYTES):
        byte = data[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return (value >> 1) ^ -(value & 1), at + place + 1
    raise ValueError("a number has no end")


def number(value: int) -> bytes:
    """Return a number as Avro writes it."""
    rest, spelled = (value << 1) ^ (value >> 63), bytearray()
    while rest > 127:
        spelled.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*spelled, rest])


def _bytes_at(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = number_at(data, at)
    if size < 0:
        raise ValueError("an entry of the header has a negative size")
    if at + size > len(data):
        raise IndexError
    return data[at : at + size], at + size


def blocks(source: pa.NativeFile, header: Header, start: int, stop: int | None) -> Iterator[Block]:
    """Yield the places of the blocks from one offset to another, without reading their rows.

    Raises:
      ValueError: a block's beginning or the mark after it is damaged, or the file ends within it.
    """
    size = source.size()
    at, end = max(start, header.end), size if stop is None else stop
    while at < end:
        source.seek(at)
        beginning = source.read(_BEGINNING_BYTES)
        try:
            rows, used = number_at(beginning, 0)
            stored, used = number_at(beginning, used)
        except IndexError:
            raise ValueError("the file ends within a block") from None
        if rows < 0 or stored < 0:
            raise ValueError("a block of a negative size")
        after = at + used + stored
        if after + SYNC_BYTES > size:
            raise ValueError("the file ends within a block")
        source.seek(after)
        if source.read(SYNC_BYTES) != header.sync:
            raise ValueError("the mark after a block is another one")
        yield Block(at, after + SYNC_BYTES, rows, at + used, stored)
        at = after + SYNC_BYTES


def block_data(source: pa.NativeFile, header: Header, block: Block, most: int) -> bytes:
    """Return the decompressed rows of a block.

    Raises:
      ValueError: they are damaged, or more than `most` bytes.
    """
    source.seek(block.data)
    data = _CODECS[header.codec](source.read(block.stored), most)
    if len(data) > most:
        raise ValueError(f"a block unfolds to over {most >> 20} MB, too much for its file")
    # Rows without a byte would be free: a block could hold any number.
    if block.rows > len(data):
        raise ValueError(f"a block promises {block.rows:,} rows in {len(data):,} bytes")
    return data


def _deflate(data: bytes, most: int) -> bytes:
    decoder = zlib.decompressobj(-15)
    return _whole(decoder.decompress(data, most + 1), decoder.eof, most)


def _bzip2(data: bytes, most: int) -> bytes:
    decoder = bz2.BZ2Decompressor()
    return _whole(decoder.decompress(data, most + 1), decoder.eof, most)


def _xz(data: bytes, most: int) -> bytes:
    decoder = lzma.LZMADecompressor(memlimit=_XZ_BYTES)
    return _whole(decoder.decompress(data, most + 1), decoder.eof, most)


def _whole(data: bytes, ended: bool, most: int) -> bytes:
    if not ended and len(data) <= most:
        raise ValueError("the compressed data of a block end too early")
    return data


def _zstandard(data: bytes, most: int) -> bytes:
    with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
        return bytes(stream.read_buffer(most + 1))


def _snappy(data: bytes, most: int) -> bytes:
    # The length of the data comes first, as Protocol Buffers write it; their checksum last.
    length = shift = 0
    for place in range(_NUMBER_BYTES):
        byte = data[place]
        length, shift = length | (byte & 127) << shift, shift + 7
        if byte < 128:
            break
    if length > most:
        raise ValueError(f"a block unfolds to over {most >> 20} MB, too much for its file")
    unfolded = bytes(pa.decompress(data[:-4], length, codec="snappy"))
    if zlib.crc32(unfolded).to_bytes(4, "big") != data[-4:]:
        raise ValueError("the checksum of a block is another one")
    return unfolded


_CODECS: dict[str, Callable[[bytes, int], bytes]] = {
    "null": lambda data, most: data,
    "deflate": _deflate,
    "snappy": _snappy,
    "zstandard": _zstandard,
    "bzip2": _bzip2,
    "xz": _xz,
}
