"""Read metadata of ORC files without Arrow, whose reader trusts the lengths in a stripe.

A text or list of a negative length makes Arrow read outside of its memory, which ends the process.
The format is that of https://orc.apache.org/specification/ORCv1/.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import pyarrow as pa

#: Numbers of fields in ORC's protocol buffers: the post script and the footer in the tail, the
#: compression in the former; stripes and types in the latter.
_POST_SCRIPT, _FOOTER, _COMPRESSION, _STRIPES, _TYPES = 1, 2, 2, 3, 4
#: In a stripe: its offset, the lengths of index, data and footer, and the number of rows.
_OFFSET, _PARTS, _ROWS = 1, (2, 3, 4), 5
#: In a stripe's footer: streams with kind, column and length; encodings with their kind.
_STREAMS, _ENCODINGS, _KIND, _COLUMN, _LENGTH = 1, 2, 1, 2, 3
#: Kind of the stream of lengths, and of encodings with runs of the second version.
_LENGTHS, _SECOND = 2, (2, 3)
#: In a type: the types of its fields.
_SUBTYPES = 2
_NONE, _ZLIB, _SNAPPY, _LZ4, _ZSTD = 0, 1, 2, 4, 5
#: Bits of packed values by their code.
_BITS = (*range(1, 25), 26, 28, 30, 32, 40, 48, 56, 64)
#: First length that no text or list has; the sum of lengths below stays within 64 bits.
_TOO_LONG_BITS = 40
_TOO_LONG = 1 << _TOO_LONG_BITS
_WRONG = "a text or list has a length that none has"

_Fields = dict[int, list[int | bytes]]


@dataclass(frozen=True)
class Stripe:
    """A stripe, by the footer."""

    #: Number of rows.
    rows: int
    #: Byte offset, and bytes of index, data and footer.
    offset: int
    parts: tuple[int, int, int]

    @property
    def stored(self) -> int:
        """Bytes that it takes."""
        return sum(self.parts)


@dataclass(frozen=True)
class Tail:
    """The metadata at the end of a file."""

    stripes: tuple[Stripe, ...]
    #: Number of the compression.
    compression: int
    #: Type of each column of the root, by the numbers of types.
    columns: tuple[int, ...]


def tail_of(serialized: bytes) -> Tail:
    """Return the stripes of a file by its serialized tail.

    Raises:
      ValueError: the tail is damaged.
    """
    try:
        tail = _fields(serialized)
        footer = _fields(_bytes(tail, _FOOTER))
        stripes = tuple(_stripe(_fields(value)) for value in footer.get(_STRIPES, []))
        compression = _number(_fields(_bytes(tail, _POST_SCRIPT)), _COMPRESSION)
        root = _fields(footer[_TYPES][0])
        return Tail(stripes, compression, tuple(_numbers(root.get(_SUBTYPES, []))))
    except (IndexError, KeyError, TypeError):
        raise ValueError("the footer has no end") from None


def _stripe(fields: _Fields) -> Stripe:
    index, data, footer = (_number(fields, part) for part in _PARTS)
    return Stripe(_number(fields, _ROWS), _number(fields, _OFFSET), (index, data, footer))


def check_lengths(
    source: pa.NativeFile, tail: Tail, stripe: Stripe, columns: Collection[int]
) -> None:
    """Check that each text, list or map of a stripe has a length that it can have.

    Args:
      source: the opened file; its position moves.
      tail: of the file.
      stripe: one of its stripes.
      columns: places of the columns that are read.

    Raises:
      ValueError: a length is negative or too large, or the footer or the lengths are damaged.
    """
    if tail.compression not in (_NONE, _ZLIB, _SNAPPY, _LZ4, _ZSTD):
        raise ValueError("its compression is not read; use zlib, snappy, zstd or lz4")
    read = [
        range(first, after)
        for place, (first, after) in enumerate(
            zip(tail.columns, (*tail.columns[1:], 1 << 32), strict=True)
        )
        if place in columns
    ]
    try:
        start = stripe.offset + stripe.parts[0] + stripe.parts[1]
        footer = _fields(_read(source, start, stripe.parts[2], tail.compression))
        encodings = [_number(_fields(value), _KIND) for value in footer.get(_ENCODINGS, [])]
        at = stripe.offset
        for stream in map(_fields, footer.get(_STREAMS, [])):
            column, length = _number(stream, _COLUMN), _number(stream, _LENGTH)
            if _number(stream, _KIND) == _LENGTHS and any(column in ids for ids in read):
                data = _read(source, at, length, tail.compression)
                second = encodings[column] in _SECOND
                (_check_second if second else _check_first)(data)
            at += length
    except (IndexError, TypeError, zlib.error):
        raise ValueError("lengths of a stripe have no end") from None


def _read(source: pa.NativeFile, start: int, length: int, compression: int) -> bytes:
    """Return decompressed bytes."""
    if start + length > source.size():
        raise ValueError("a stripe lies outside of the file")
    source.seek(start)
    data: bytes = source.read(length)
    if compression == _NONE:
        return data
    parts, at = [], 0
    while at < len(data):
        header = int.from_bytes(data[at : at + 3], "little")
        chunk = data[at + 3 : at + 3 + (header >> 1)]
        parts.append(chunk if header & 1 else _decompressed(chunk, compression))
        at += 3 + (header >> 1)
    return b"".join(parts)


#: Maximum bytes of a chunk, whose size has 23 bits.
_MAX_CHUNK_BYTES = 1 << 23


def _decompressed(chunk: bytes, compression: int) -> bytes:
    if compression == _ZLIB:
        return zlib.decompressobj(-15).decompress(chunk, _MAX_CHUNK_BYTES)
    if compression == _ZSTD:
        with pa.CompressedInputStream(pa.BufferReader(chunk), "zstd") as stream:
            return bytes(stream.read_buffer(_MAX_CHUNK_BYTES))
    if compression == _LZ4:
        return _lz4(chunk)
    size, _ = _varint(chunk, 0)
    if size > _MAX_CHUNK_BYTES:
        raise ValueError("a chunk of a stripe is too long")
    return bytes(pa.decompress(chunk, size, codec="snappy"))


def _lz4(chunk: bytes) -> bytes:
    """Decompress a block of LZ4, whose size only decompression tells: Arrow needs it before."""
    out, at = bytearray(), 0

    def length(nibble: int) -> int:
        nonlocal at
        if nibble == 15:
            while True:
                byte, at = chunk[at], at + 1
                nibble += byte
                if byte < 255:
                    break
        return nibble

    while at < len(chunk):
        token, at = chunk[at], at + 1
        literals = length(token >> 4)
        out += chunk[at : at + literals]
        at += literals
        if at >= len(chunk):
            break
        offset, at = int.from_bytes(chunk[at : at + 2], "little"), at + 2
        size, start = length(token & 15) + 4, len(out) - offset
        if start < 0 or not offset or len(out) + size > _MAX_CHUNK_BYTES:
            raise ValueError("a chunk of a stripe is damaged")
        again = bytes(out[start:])
        out += (again * (size // offset + 1))[:size]
    return bytes(out)


def _check_first(data: bytes) -> None:
    """Check runs of version 1: equal steps, or numbers one by one."""
    at = 0
    while at < len(data):
        control, at = data[at], at + 1
        if control < 128:
            step = int.from_bytes(data[at : at + 1], "little", signed=True)
            base, at = _varint(data, at + 1)
            _check(base, base + step * (control + 2))
            continue
        for _ in range(256 - control):
            value, at = _varint(data, at)
            _check(value)


def _check_second(data: bytes) -> None:
    """Check runs of version 2: repeated, packed, patched, or by steps."""
    at = 0
    while at < len(data):
        first = data[at]
        if first < 64:
            width = (first >> 3 & 7) + 1
            _check(int.from_bytes(data[at + 1 : at + 1 + width], "big"))
            at += 1 + width
            continue
        bits, length = _BITS[first >> 1 & 31], ((first & 1) << 8 | data[at + 1]) + 1
        at += 2
        if first < 128:
            size = (bits * length + 7) // 8
            if bits > _TOO_LONG_BITS:
                each = bits // 8
                places = range(at, at + size, each)
                _check(*(int.from_bytes(data[i : i + each], "big") for i in places))
            at += size
        elif first < 192:
            at = _check_patched(data, at, bits, length)
        else:
            at = _check_steps(data, at, bits if first >> 1 & 31 else 0, length)


def _check_patched(data: bytes, at: int, bits: int, length: int) -> int:
    width, patch = (data[at] >> 5) + 1, _BITS[data[at] & 31]
    gap, patches = (data[at + 1] >> 5) + 1, data[at + 1] & 31
    # The sign is the first bit.
    if data[at + 2] & 128 or bits + patch > _TOO_LONG_BITS:
        raise ValueError(_WRONG)
    together: int = next(size for size in _BITS if size >= min(patch + gap, 64))
    return at + 2 + width + (bits * length + 7) // 8 + (together * patches + 7) // 8


def _check_steps(data: bytes, at: int, bits: int, length: int) -> int:
    base, at = _varint(data, at)
    coded, at = _varint(data, at)
    step = (coded >> 1) ^ -(coded & 1)
    _check(base)
    if not bits:
        _check(base + step * (length - 1))
        return at
    count = max(length - 2, 0)
    size = (bits * count + 7) // 8
    if step >= 0:
        _check(base + step + ((1 << bits) - 1) * count)
    else:
        packed = int.from_bytes(data[at : at + size], "big") >> (8 * size - bits * count)
        steps = (packed >> bits * place & (1 << bits) - 1 for place in range(count))
        _check(base + step - sum(steps))
    return at + size


def _check(*values: int) -> None:
    if any(not 0 <= value < _TOO_LONG for value in values):
        raise ValueError(_WRONG)


def _bytes(fields: _Fields, number: int) -> bytes:
    value = fields[number][-1]
    if isinstance(value, int):
        raise TypeError
    return value


def _number(fields: _Fields, number: int) -> int:
    value = fields.get(number, [0])[-1]
    if not isinstance(value, int):
        raise TypeError
    return value


def _numbers(values: list[int | bytes]) -> Iterator[int]:
    """Yield repeated numbers, packed or one by one."""
    for value in values:
        if isinstance(value, int):
            yield value
            continue
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            yield number


def _fields(message: int | bytes) -> _Fields:
    """Return the values of a protocol buffer's fields by number.

    Raises:
      IndexError, KeyError, TypeError: it is none.
    """
    if isinstance(message, int):
        raise TypeError
    fields: _Fields = {}
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
            fields.setdefault(key >> 3, []).append(value)
            continue
        size, at = _varint(message, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
        if at + size > len(message):
            raise IndexError
        fields.setdefault(key >> 3, []).append(message[at : at + size])
        at += size
    return fields


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
        if byte < 128:
            return value, at
    raise IndexError
