"""Ids with equal hashes or equal table slots if the hash has no key."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

#: Of transactions and of accounts; found by taking the mix back.
COLLIDING = ("TX00000000000001", "TXfWNvkPzWPHXCYH")
COLLIDING_ACCOUNTS = ("ACCT000000000042", "o6Og1noyA75FrPTt")

Words = npt.NDArray[np.uint64]
_SHIFT = np.uint64(33)
_FACTORS = (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53)
_ADDED = np.uint64(0x9E3779B97F4A7C15)


def _mixed(words: Words) -> Words:
    for factor in _FACTORS:
        words = (words ^ (words >> _SHIFT)) * np.uint64(factor)
    return (words ^ (words >> _SHIFT)) + _ADDED


def _unmixed(words: Words) -> Words:
    words = words - _ADDED
    words = words ^ (words >> _SHIFT)
    for factor in reversed(_FACTORS):
        words = words * np.uint64(pow(factor, -1, 1 << 64))
        words = words ^ (words >> _SHIFT)
    return words


def ids_of_one_sequence(candidates: int = 4 << 20) -> pa.StringArray:
    """Return about 15,000 ids of 16 bytes whose unkeyed hashes agree in the upper and lower 20
    bits.

    Those are what a table of a million slots goes by.
    """
    middle = np.arange(candidates, dtype=np.uint64) << np.uint64(20)
    expected = middle | np.uint64(0x5A5A5 << 44) | np.uint64(0x12345)
    first = np.frombuffer(b"TX-CHOSEN", np.uint64, 1)
    second = _unmixed(_mixed(np.uint64(16) ^ _mixed(first)) ^ _unmixed(expected))
    # Text: no byte above 127, none 0.
    bytes_ = second.view(np.uint8).reshape(-1, 8)
    text = second[((bytes_ < 128) & (bytes_ > 0)).all(axis=1)]
    data = np.empty((len(text), 2), dtype=np.uint64)
    data[:, 0], data[:, 1] = first, text
    offsets = np.arange(len(text) + 1, dtype=np.int32) * 16
    return pa.StringArray.from_buffers(len(text), pa.py_buffer(offsets), pa.py_buffer(data))
