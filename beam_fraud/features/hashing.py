"""Keyed hashes of ids: an attacker who chooses ids cannot cause collisions."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.cmac import CMAC

from beam_fraud.errors import Code, FraudError

#: uint64[n]
Hashes = npt.NDArray[np.uint64]
#: uint64[2, n], the two words of hashes of 128 bits.
WideHashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]

_WORD, _BLOCK = 8, 16
_TAG = struct.Struct("<2Q")
#: Masks of the first 0 .. 8 bytes of a little-endian word.
_MASKS = np.array([(1 << 8 * count) - 1 for count in range(_WORD + 1)], dtype=np.uint64)
#: Masks of the first 0 .. 16 bytes of two words.
_BLOCK_MASKS = np.array(
    [(_MASKS[min(count, _WORD)], _MASKS[max(count - _WORD, 0)]) for count in range(_BLOCK + 1)]
)
#: Ids hashed together: intermediate results stay in the processor's cache.
_TOGETHER = 8_192
#: Bounds of messages up to which each is hashed alone.
_FEW = 9


@dataclass(frozen=True)
class IdHash:
    """AES-CMAC (RFC 4493) of all ids of a column, under a secret key.

    A key gives equal hashes in every process; without it, hashes look random. Among a billion ids,
    two collide in 64 bits with a probability of about 3 % (n**2 / 2**65), in 128 bits of 2e-21.

    Example:
      >>> ids = pa.array(["a", "b", "a"])
      >>> first, second, third = IdHash.random().of(ids).tolist()
      >>> first == third, first == second
      (True, False)
    """

    #: 16 bytes; empty for the unkeyed hash of streams of earlier versions.
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) not in (0, _BLOCK):
            raise ValueError(f"the key has {len(self.key)} bytes, not {_BLOCK}")

    @classmethod
    def random(cls) -> IdHash:
        """Return a hash with a random key."""
        return cls(os.urandom(_BLOCK))

    @property
    def keyed(self) -> bool:
        """Return whether it has a key."""
        return bool(self.key)

    @property
    def words(self) -> int:
        """Number of significant words of `wide`."""
        return 2 if self.keyed else 1

    @property
    def fingerprint(self) -> int:
        """Fingerprint of the key, which does not reveal it: 0 .. 2**63 - 1, 0 without a key."""
        return _fingerprint(self.key) if self.keyed else 0

    def of(self, ids: pa.StringArray) -> Hashes:
        """Return a 64-bit hash of each id, the first word of `wide`.

        Args:
          ids: string[n]; the hash of a null is arbitrary.

        Returns:
          uint64[n].
        """
        return np.ascontiguousarray(self.wide(ids)[0])

    def wide(self, ids: pa.StringArray) -> WideHashes:
        """Return a 128-bit hash of each id, unique in practice.

        Args:
          ids: string[n]; the hash of a null is arbitrary.

        Returns:
          uint64[2, n]; without a key the second word is 0.
        """
        if not len(ids):
            return np.zeros((2, 0), dtype=np.uint64)
        _, offsets, data = ids.buffers()
        bounds = np.frombuffer(offsets, np.int32)[ids.offset :][: len(ids) + 1]
        text = np.frombuffer(data or b"", np.uint8)[int(bounds[0]) : int(bounds[-1])]
        if self.keyed:
            return _cmac(self.key, text, bounds)
        hashes = np.zeros((2, len(ids)), dtype=np.uint64)
        hashes[0] = _unkeyed(text, bounds)
        return hashes

    def of_several(self, ids: Sequence[str]) -> WideHashes:
        """Return what `wide` does for n ids, of a key."""
        texts = [id.encode() for id in ids]
        bounds = np.cumsum([0, *map(len, texts)])
        return _cmac(self.key, np.frombuffer(b"".join(texts), np.uint8), bounds)

    def of_few(self, ids: Sequence[str]) -> list[tuple[int, int]]:
        """Return both words of the hash of each of a few ids, of a key: those of `wide`."""
        return _tags_of_few(self.key, [id.encode() for id in ids])

    def of_one(self, id: str) -> tuple[int, int]:
        """Return both words of the hash of one id, of a key: those of `wide`."""
        return _tag(self.key, id.encode())

    def of_one_together(self, words: Sequence[int]) -> int:
        """Return what `of_words` does for one row, of a key; a single word stays as it is."""
        if len(words) == 1:
            return words[0]
        return _tag(self.key, struct.pack(f"<{len(words)}Q", *words))[0]

    def of_columns(self, columns: Sequence[pa.StringArray]) -> Hashes:
        """Return a 64-bit hash of several columns together; for one column, that of `of`.

        Args:
          columns: string[n] each, at least one.

        Returns:
          uint64[n]; another order of the columns gives other hashes.
        """
        return self.of_words([self.of(column) for column in columns])

    def of_words(self, columns: Sequence[Hashes]) -> Hashes:
        """Return the same for columns of 64-bit words (uint64[n]); a single one stays as it is."""
        if len(columns) == 1 or not len(columns[0]):
            return columns[0]
        if not self.keyed:
            return _unkeyed_together(columns)
        rows = np.stack(columns, axis=1)
        bounds = np.arange(len(rows) + 1) * (_WORD * len(columns))
        return np.ascontiguousarray(_cmac(self.key, rows.view(np.uint8).reshape(-1), bounds)[0])


@lru_cache(maxsize=256)
def _fingerprint(key: bytes) -> int:
    digest = blake2b(key, digest_size=_WORD, person=b"fingerprint").digest()
    return int.from_bytes(digest, "little") >> 1


#: The unkeyed hash of streams of earlier versions.
UNKEYED = IdHash(b"")


def other_hash(what: str) -> FraudError:
    """Return the error for state under another key, in which no id would match."""
    return FraudError(
        f"the stream's state: {what} were hashed under another key; give the --out that the stream "
        "had, whose stream/about.json has the key, or start again with another --out and no "
        "--savepoint_path",
        Code.STREAM_CHANGED,
    )


def _cmac(key: bytes, text: npt.NDArray[np.uint8], bounds: npt.NDArray[np.integer]) -> WideHashes:
    """Return the CMAC tags of one or more messages.

    Args:
      key: 16 bytes.
      text: uint8[t], the concatenated messages.
      bounds: integers[n + 1], start of each and end of the last, absolute or relative.

    Returns:
      uint64[2, n].
    """
    if len(bounds) <= _FEW:
        return _cmac_of_few(key, text.tobytes(), bounds)
    # Zeros after the last message, so that a block can be read anywhere.
    padded = np.zeros(len(text) + 2 * _BLOCK, dtype=np.uint8)
    padded[: len(text)] = text
    # NumPy moves a complex number as a whole, three times as fast as two words.
    blocks = np.ndarray(len(text) + _BLOCK, dtype=np.complex128, buffer=padded, strides=(1,))
    tags = np.empty((len(bounds) - 1, 2), dtype=np.uint64)
    origin = int(bounds[0])
    encryptor = _encryptor(key)
    for row in range(0, len(tags), _TOGETHER):
        ends = bounds[row : row + _TOGETHER + 1].astype(np.int64) - origin
        tags[row : row + _TOGETHER] = _tags(
            encryptor, _final_blocks(key), blocks, ends[:-1], ends[1:] - ends[:-1]
        )
    return tags.T


def _cmac_of_few(key: bytes, text: bytes, bounds: npt.NDArray[np.integer]) -> WideHashes:
    """Return the same for a few messages."""
    ends = [bound - int(bounds[0]) for bound in bounds.tolist()]
    tags = _tags_of_few(key, [text[start:end] for start, end in pairwise(ends)])
    return np.array(tags, dtype=np.uint64).reshape(-1, 2).T


def _tags_of_few(key: bytes, texts: Sequence[bytes]) -> list[tuple[int, int]]:
    """Return the words of the CMAC tag of each of a few messages.

    Messages of one block are encrypted together: a call takes longer than their blocks.
    """
    if max(map(len, texts), default=0) > _BLOCK:
        return [_tag(key, text) for text in texts]
    final, blocks = _final_numbers(key), 0
    for text in reversed(texts):
        blocks = blocks << 8 * _BLOCK | int.from_bytes(text, "little") ^ final[len(text)]
    tags = _encryptor(key).update(blocks.to_bytes(_BLOCK * len(texts), "little"))
    return list(_TAG.iter_unpack(tags))


def _tag(key: bytes, text: bytes) -> tuple[int, int]:
    """Return the words of the CMAC tag of one message."""
    one = _empty(key).copy()
    one.update(text)
    first, second = _TAG.unpack(one.finalize())
    return first, second


@lru_cache(maxsize=256)
def _empty(key: bytes) -> CMAC:
    return CMAC(AES(key))


def _tags(
    encryptor: CipherContext,
    final_blocks: npt.NDArray[np.uint64],
    blocks: npt.NDArray[np.complex128],
    starts: Places,
    lengths: Places,
) -> npt.NDArray[np.uint64]:
    """Return uint64[n, 2]: tags of messages whose blocks but the last are chained first."""
    before = np.maximum(lengths - 1, 0) >> 4
    most, order = int(before.max()), None
    if int(before.min()) != most:
        # Longest first: messages with remaining blocks are at the front.
        order = np.argsort(-before, kind="stable")
        starts, lengths, before = starts[order], lengths[order], before[order]
    chained = np.zeros((len(starts), 2), dtype=np.uint64)
    for done in range(most):
        left = len(before) if order is None else int(np.searchsorted(-before, -done, "left"))
        chained[:left] ^= _words(blocks[starts[:left] + done * _BLOCK])
        chained[:left] = _encrypted(encryptor, chained[:left])
    if most:
        starts, lengths = starts + (before << 4), lengths - (before << 4)
    last = _words(blocks[starts])
    last &= np.take(_BLOCK_MASKS, lengths, axis=0)
    last ^= np.take(final_blocks, lengths, axis=0)
    if most:
        last ^= chained
    tags = _encrypted(encryptor, last)
    if order is None:
        return tags
    in_order = np.empty_like(tags)
    in_order[order] = tags
    return in_order


def _words(blocks: npt.NDArray[np.complex128]) -> npt.NDArray[np.uint64]:
    return blocks.view(np.uint64).reshape(-1, 2)


def _encrypted(encryptor: CipherContext, blocks: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    # The cipher requires room for one more block than it fills.
    room = np.empty((len(blocks) + 1, 2), dtype=np.uint64)
    encryptor.update_into(
        blocks.reshape(-1).view(np.uint8).data, room.reshape(-1).view(np.uint8).data
    )
    return room[:-1]


@lru_cache(maxsize=256)
def _cipher(key: bytes) -> Cipher[ECB]:
    # ECB is the primitive of CMAC, which chains the blocks itself.
    return Cipher(AES(key), ECB())


class _Encryptors(threading.local):
    """The encryptors of a thread by key, which take as long to make as to hash some dozen ids."""

    def __init__(self) -> None:
        self.of_key = dict[bytes, CipherContext]()


_encryptors = _Encryptors()
_MOST_ENCRYPTORS = 256


def _encryptor(key: bytes) -> CipherContext:
    """Return an encryptor of this thread; of whole blocks, ECB keeps nothing between two calls."""
    known = _encryptors.of_key
    encryptor = known.get(key)
    if encryptor is None:
        if len(known) >= _MOST_ENCRYPTORS:
            known.clear()
        encryptor = known[key] = _cipher(key).encryptor()
    return encryptor


@lru_cache(maxsize=256)
def _final_blocks(key: bytes) -> npt.NDArray[np.uint64]:
    """Return uint64[17, 2]: padding and subkey for a last block of 0 .. 16 bytes."""
    subkey = int.from_bytes(_cipher(key).encryptor().update(bytes(_BLOCK)), "big")
    subkeys = []
    for _ in range(2):
        subkey = (subkey << 1 & (1 << 128) - 1) ^ (0x87 if subkey >> 127 else 0)
        subkeys.append(subkey)
    whole, part = subkeys
    blocks = [part ^ (0x80 << 8 * (_BLOCK - 1 - length)) for length in range(_BLOCK)]
    data = b"".join(block.to_bytes(_BLOCK, "big") for block in (*blocks, whole))
    return np.frombuffer(data, np.uint64).reshape(-1, 2)


@lru_cache(maxsize=256)
def _final_numbers(key: bytes) -> list[int]:
    """Return the same as little-endian numbers."""
    return [int.from_bytes(block.tobytes(), "little") for block in _final_blocks(key)]


def _unkeyed(text: npt.NDArray[np.uint8], bounds: npt.NDArray[np.int32]) -> Hashes:
    """Mix eight bytes at a time by Murmur3's 64-bit finaliser (Appleby, 2011)."""
    padded = np.concatenate((text, np.zeros(_WORD, dtype=np.uint8)))
    words = np.ndarray(len(text) + 1, dtype="<u8", buffer=padded, strides=(1,))
    starts, lengths = bounds[:-1].astype(np.int64) - int(bounds[0]), np.diff(bounds)
    hashes = lengths.astype(np.uint64)
    rows: Places | slice = slice(None)
    for done in range(0, max(int(lengths.max()), 1), _WORD):
        if done:
            rows = np.flatnonzero(lengths > done)
        left = np.minimum(lengths[rows] - done, _WORD)
        hashes[rows] = _mixed(hashes[rows] ^ _mixed(words[starts[rows] + done] & _MASKS[left]))
    return hashes


def _unkeyed_together(columns: Sequence[Hashes]) -> Hashes:
    together = columns[0]
    for column in columns[1:]:
        together = _mixed(_mixed(together) ^ column)
    return together


def _mixed(words: Hashes) -> Hashes:
    words = (words ^ (words >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    words = (words ^ (words >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return (words ^ (words >> np.uint64(33))) + np.uint64(0x9E3779B97F4A7C15)
