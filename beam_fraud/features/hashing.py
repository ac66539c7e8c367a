"""64-bit hashes of identifiers, the same in every process."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Hashes = npt.NDArray[np.uint64]

_WORD = 8
#: Keeps the first 0 .. 8 bytes of a little-endian word.
_MASKS = np.array([(1 << 8 * kept) - 1 for kept in range(_WORD + 1)], dtype=np.uint64)


def hash_ids(ids: pa.StringArray) -> Hashes:
    """A 64-bit hash of each id, the same in every process.

    Eight bytes at a time are mixed in as by Murmur3's 64-bit finaliser (Appleby, 2011). Among a
    billion different ids two agree by chance with a probability of about 3 % (n**2 / 2**65).

    Args:
      ids: string[n], no nulls.

    Returns:
      uint64[n].
    """
    if not len(ids):
        return np.zeros(0, dtype=np.uint64)
    _, offsets, data = ids.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[ids.offset :][: len(ids) + 1].astype(np.int64)
    text = np.frombuffer(data or b"", dtype=np.uint8)[bounds[0] : bounds[-1]]
    # Zeros behind the last id, so that eight bytes can be taken anywhere.
    padded = np.concatenate((text, np.zeros(_WORD, dtype=np.uint8)))
    words = np.ndarray(len(text) + 1, dtype="<u8", buffer=padded, strides=(1,))
    starts, lengths = bounds[:-1] - bounds[0], np.diff(bounds)
    hashes = lengths.astype(np.uint64)
    rows: npt.NDArray[np.int64] | slice = slice(None)
    for done in range(0, max(int(lengths.max()), 1), _WORD):
        if done:
            rows = np.flatnonzero(lengths > done)
        left = np.minimum(lengths[rows] - done, _WORD)
        hashes[rows] = _mixed(hashes[rows] ^ _mixed(words[starts[rows] + done] & _MASKS[left]))
    return hashes


def hash_keys(columns: Sequence[Hashes]) -> Hashes:
    """One hash of several columns' hashes; that of one column is its own.

    Args:
      columns: uint64[n] of `hash_ids` each, at least one.

    Returns:
      uint64[n]; another order of the columns gives other hashes.
    """
    together = columns[0]
    for column in columns[1:]:
        together = _mixed(_mixed(together) ^ column)
    return together


def _mixed(words: Hashes) -> Hashes:
    words = (words ^ (words >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    words = (words ^ (words >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return (words ^ (words >> np.uint64(33))) + np.uint64(0x9E3779B97F4A7C15)
