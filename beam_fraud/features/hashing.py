"""Keyed hashes of identifiers: who chooses ids cannot know which of them hash alike."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.errors import FraudError

#: uint64[n]
Hashes = npt.NDArray[np.uint64]
#: uint64[2, n], the two words of hashes of 128 bits.
WideHashes = npt.NDArray[np.uint64]

_WORD = 8
_KEY_BYTES = 16
#: Keeps the first 0 .. 8 bytes of a little-endian word.
_MASKS = np.array([(1 << 8 * kept) - 1 for kept in range(_WORD + 1)], dtype=np.uint64)
#: Ids that are hashed together: what is computed on the way stays in the processor's cache.
_TOGETHER = 8_192
#: By how many bits SipHash rotates v1 and v3 in either half of a round.
_LEFT_FIRST, _LEFT_SECOND = np.array([[[13], [16]], [[17], [21]]], dtype=np.uint64)
_RIGHT_FIRST, _RIGHT_SECOND = 64 - _LEFT_FIRST, 64 - _LEFT_SECOND
_HALF = np.array(32, dtype=np.uint64)


@dataclass(frozen=True)
class IdHash:
    """SipHash-1-3 (Aumasson and Bernstein, 2012) under a secret key, vectorised.

    The same key gives the same hashes in every process. Among a billion ids two agree in 64 bits
    by chance with a probability of about 3 % (n**2 / 2**65), in 128 bits of 2e-21.

    Example:
      >>> ids = pa.array(["a", "b", "a"])
      >>> first, second, third = IdHash.random().of(ids).tolist()
      >>> first == third, first == second
      (True, False)
    """

    #: 16 bytes; none for the hash without a key that streams began with before there was one.
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse another length."""
        if len(self.key) not in (0, _KEY_BYTES):
            raise ValueError(f"the key has {len(self.key)} bytes, not {_KEY_BYTES}")

    @classmethod
    def random(cls) -> IdHash:
        """A hash that nobody can predict."""
        return cls(os.urandom(_KEY_BYTES))

    @property
    def keyed(self) -> bool:
        """Whether it has a key."""
        return bool(self.key)

    @property
    def words(self) -> int:
        """How many words of `wide` tell ids apart."""
        return 2 if self.keyed else 1

    @property
    def fingerprint(self) -> int:
        """Tells keys apart without giving them away: 0 .. 2**63 - 1, 0 without a key."""
        if not self.keyed:
            return 0
        digest = blake2b(self.key, digest_size=_WORD, person=b"fingerprint").digest()
        return int.from_bytes(digest, "little") >> 1

    def of(self, ids: pa.StringArray) -> Hashes:
        """A hash of 64 bits of each id.

        Args:
          ids: string[n]; nulls are hashed as something.

        Returns:
          uint64[n].
        """
        hashes: Hashes = self._of(ids, 1)[0]
        return hashes

    def wide(self, ids: pa.StringArray) -> WideHashes:
        """A hash of 128 bits of each id, which tells it from all others.

        Args:
          ids: string[n]; nulls are hashed as something.

        Returns:
          uint64[2, n]; without a key the second word is 0.
        """
        return self._of(ids, 2)

    def of_columns(self, columns: Sequence[pa.StringArray]) -> Hashes:
        """A hash of 64 bits of what several columns say together; of one column it is `of`.

        Args:
          columns: string[n] each, at least one.

        Returns:
          uint64[n]; another order of the columns gives other hashes.
        """
        return self.of_words([self.of(column) for column in columns])

    def of_words(self, columns: Sequence[Hashes]) -> Hashes:
        """The same of columns of 64-bit words (uint64[n] each), a single one of which stays."""
        if len(columns) == 1:
            return columns[0]
        if not self.keyed:
            return _unkeyed_together(columns)
        hashes = np.empty((1, len(columns[0])), dtype=np.uint64)
        for rows in _pieces(hashes.shape[1]):
            sip = _SipHash(self.key, len(hashes[0, rows]), 1)
            for column in columns:
                sip.add(column[rows])
            # Other than the length of any id, so that no id hashes as columns do.
            sip.add(np.uint64(0xFF << 56 | len(columns)))
            sip.finish(hashes[:, rows])
        together: Hashes = hashes[0]
        return together

    def _of(self, ids: pa.StringArray, words: int) -> WideHashes:
        hashes = np.zeros((words, len(ids)), dtype=np.uint64)
        if not len(ids):
            return hashes
        text = _Text(ids)
        if not self.keyed:
            hashes[0] = text.unkeyed()
            return hashes
        for rows in _pieces(len(ids)):
            text.hash(self.key, rows, hashes[:, rows])
        return hashes


#: What streams hash with that began before there was a key.
UNKEYED = IdHash(b"")


def other_hash(what: str) -> FraudError:
    """What to raise where a stream's state was kept under another key: nothing in it is found."""
    return FraudError(
        f"the stream's state: {what} were hashed under another key; give the --out that the stream "
        "had, whose stream/about.json has the key, or start anew with another --out and no "
        "--savepoint_path"
    )


def _pieces(rows: int) -> Iterator[slice]:
    return (slice(start, start + _TOGETHER) for start in range(0, rows, _TOGETHER))


class _Text:
    """The bytes of one or more ids, eight of which can be taken anywhere as a word."""

    def __init__(self, ids: pa.StringArray) -> None:
        _, offsets, data = ids.buffers()
        bounds = np.frombuffer(offsets, np.int32)[ids.offset :][: len(ids) + 1].astype(np.int64)
        text = np.frombuffer(data or b"", dtype=np.uint8)[bounds[0] : bounds[-1]]
        # Zeros behind the last id.
        padded = np.concatenate((text, np.zeros(_WORD, dtype=np.uint8)))
        self.words = np.ndarray(len(text) + 1, dtype="<u8", buffer=padded, strides=(1,))
        self.starts, self.lengths = bounds[:-1] - bounds[0], np.diff(bounds)

    def hash(self, key: bytes, rows: slice, hashes: WideHashes) -> None:
        """Put the hashes of some rows into `hashes`, uint64[1 or 2, rows]."""
        starts, lengths = self.starts[rows], self.lengths[rows]
        full = lengths // _WORD
        most = int(full.max())
        order = None
        if int(full.min()) != most:
            # The longest first: those that have a word left are at the front.
            order = np.argsort(-full, kind="stable")
            starts, lengths, full = starts[order], lengths[order], full[order]
        sip = _SipHash(key, len(starts), len(hashes))
        for done in range(most):
            left = len(full) if order is None else int(np.searchsorted(-full, -done, "left"))
            sip.add(self.words[starts[:left] + done * _WORD])
        last = self.words[starts + full * _WORD] & _MASKS[lengths % _WORD]
        sip.add(last | lengths.astype(np.uint64) << np.uint64(56))
        if order is None:
            sip.finish(hashes)
            return
        ordered = np.empty_like(hashes)
        sip.finish(ordered)
        hashes[:, order] = ordered

    def unkeyed(self) -> Hashes:
        """Eight bytes at a time mixed in as by Murmur3's 64-bit finaliser (Appleby, 2011)."""
        hashes = self.lengths.astype(np.uint64)
        rows: npt.NDArray[np.int64] | slice = slice(None)
        for done in range(0, max(int(self.lengths.max()), 1), _WORD):
            if done:
                rows = np.flatnonzero(self.lengths > done)
            left = np.minimum(self.lengths[rows] - done, _WORD)
            words = self.words[self.starts[rows] + done] & _MASKS[left]
            hashes[rows] = _mixed(hashes[rows] ^ _mixed(words))
        return hashes


class _SipHash:
    """The state of n messages, whose words come one after the other.

    Of the algorithm's v0 .. v3 the even and the odd ones lie together, so that NumPy is called once
    for two of them.
    """

    def __init__(self, key: bytes, rows: int, words: int) -> None:
        low, high = (int.from_bytes(key[start : start + _WORD], "little") for start in (0, _WORD))
        self._even = np.empty((2, rows), dtype=np.uint64)
        self._odd, self._spare = np.empty_like(self._even), np.empty_like(self._even)
        self._wide = words == 2
        self._even[0] = low ^ 0x736F6D6570736575
        self._odd[0] = high ^ 0x646F72616E646F6D ^ (0xEE if self._wide else 0)
        self._even[1] = low ^ 0x6C7967656E657261
        self._odd[1] = high ^ 0x7465646279746573

    def add(self, words: Hashes | np.uint64) -> None:
        """The next word of the first so many messages: uint64[m], or one for all of them."""
        rows = self._even.shape[1] if isinstance(words, np.uint64) else len(words)
        self._odd[1, :rows] ^= words
        self._round(rows)
        self._even[0, :rows] ^= words

    def finish(self, hashes: WideHashes) -> None:
        """Put the hashes into uint64[1 or 2, n]."""
        rows = self._even.shape[1]
        self._even[1] ^= np.uint64(0xEE if self._wide else 0xFF)
        for word, hash_ in enumerate(hashes):
            if word:
                self._odd[0] ^= np.uint64(0xDD)
            for _ in range(3):
                self._round(rows)
            np.bitwise_xor(self._even, self._odd, out=self._spare)
            np.bitwise_xor(self._spare[0], self._spare[1], out=hash_)

    def _round(self, rows: int) -> None:
        even, odd, spare = self._even[:, :rows], self._odd[:, :rows], self._spare[:, :rows]
        even += odd
        _rotate(odd, spare, _LEFT_FIRST, _RIGHT_FIRST)
        odd ^= even
        _rotate(even[0], spare[0], _HALF, _HALF)
        even += odd[::-1]
        _rotate(odd, spare, _LEFT_SECOND, _RIGHT_SECOND)
        odd ^= even[::-1]
        _rotate(even[1], spare[1], _HALF, _HALF)


def _rotate(words: Hashes, spare: Hashes, left: Hashes, right: Hashes) -> None:
    np.right_shift(words, right, out=spare)
    np.left_shift(words, left, out=words)
    words |= spare


def _unkeyed_together(columns: Sequence[Hashes]) -> Hashes:
    together = columns[0]
    for column in columns[1:]:
        together = _mixed(_mixed(together) ^ column)
    return together


def _mixed(words: Hashes) -> Hashes:
    words = (words ^ (words >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    words = (words ^ (words >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return (words ^ (words >> np.uint64(33))) + np.uint64(0x9E3779B97F4A7C15)
