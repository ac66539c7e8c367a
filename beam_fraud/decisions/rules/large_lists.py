"""The values of large lists of rules, in arrays: a million take no time to send, hash and free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.decisions.rules.text_index import TextIndex
from beam_fraud.features.hashing import IdHash

#: Entries up to which a list stays a tuple: the compiled rules look all tuples of texts up at once.
_FEW = 4_096


@dataclass(frozen=True)
class LargeTexts:
    """The texts of a large list; equal if they are the same in the same order."""

    #: SHA-256 of the texts.
    digest: bytes
    #: The texts.
    index: TextIndex = field(compare=False, repr=False)

    @classmethod
    def of(cls, texts: Sequence[str], hash: IdHash) -> LargeTexts:
        """Return the form of distinct texts; a column is hashed once for all lists of a hash."""
        array = pa.array(texts, pa.string())
        _, bounds, data = array.buffers()
        digest = sha256(bounds)
        digest.update(data)
        return cls(digest.digest(), TextIndex(array, hash))

    @property
    def first(self) -> str:
        """The first text."""
        return str(self.index.texts[0])


@dataclass(frozen=True)
class LargeNumbers:
    """The numbers of a large list; equal if they are the same in the same order."""

    #: SHA-256 of the numbers.
    digest: bytes
    #: Ascending, float64[k], none of them NaN.
    numbers: npt.NDArray[np.float64] = field(compare=False, repr=False)

    @classmethod
    def of(cls, numbers: Sequence[float]) -> LargeNumbers:
        """Return the form of distinct numbers."""
        array = np.array(numbers, dtype=np.float64) + 0.0
        return cls(sha256(array.data).digest(), np.sort(array))

    @property
    def first(self) -> float:
        """The least number."""
        return float(self.numbers[0])

    def contains(self, values: npt.NDArray[np.float64] | float) -> npt.NDArray[np.bool_]:
        """Return whether values are among the numbers, bool[n] for float64[n]; NaN is not."""
        places = np.searchsorted(self.numbers, values)
        return np.equal(self.numbers[np.minimum(places, len(self.numbers) - 1)], values)


#: Type: the values of a list, all texts or all numbers.
ListValues: TypeAlias = tuple[str, ...] | tuple[float, ...] | LargeTexts | LargeNumbers


def list_values(values: Sequence[str] | Sequence[float], hash: IdHash) -> ListValues:
    """Return the values of a list in the form that its size asks for.

    Args:
      values: distinct, at least one, all texts or all numbers.
      hash: hashes the texts of all lists that are looked up together.
    """
    if len(values) <= _FEW:
        return tuple(values)  # type: ignore[return-value]  # all texts or all numbers
    if isinstance(values[0], str):
        return LargeTexts.of(values, hash)  # type: ignore[arg-type]  # all are texts
    return LargeNumbers.of(values)  # type: ignore[arg-type]  # all are numbers
