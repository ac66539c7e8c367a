"""Texts of a column as numbers: which of the texts that rules speak of each of them is."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.features.hashing import IdHash

#: The code of a text that no rule speaks of, and of a missing one: both index from the end.
UNKNOWN, ABSENT = -1, -2

Codes = npt.NDArray[np.int32]


class TextCodes:
    """The texts that rules compare a column with, each with a code.

    Args:
      texts: what the column is compared with.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._codes = {text: code for code, text in enumerate(dict.fromkeys(texts))}
        self._texts = pa.array(list(self._codes), pa.string())
        self._hash = IdHash.random()
        hashes = self._hash.of(self._texts)
        self._order = np.argsort(hashes).astype(np.int32)
        self._sorted = hashes[self._order]
        self._distinct = len(np.unique(hashes)) == len(hashes)

    def code(self, text: str) -> int:
        """The code of one of the texts."""
        return self._codes[text]

    def members(self, texts: Iterable[str]) -> npt.NDArray[np.bool_]:
        """bool[k + 2]: whether each code, `UNKNOWN` and `ABSENT` too, is that of one of `texts`."""
        members = np.zeros(len(self._codes) + 2, dtype=bool)
        members[[self._codes[text] for text in texts]] = True
        return members

    def of(self, column: pa.StringArray) -> Codes:
        """int32[n]: the code of each text of a column."""
        # Arrow hashes all texts anew with every call: too much for a long list and few rows.
        few = len(self._texts) <= 2 * len(column) or not self._distinct
        codes = self._looked_up(column) if few else self._searched(column)
        if column.null_count:
            codes[column.is_null().to_numpy(zero_copy_only=False)] = ABSENT
        return codes

    def _looked_up(self, column: pa.StringArray) -> Codes:
        found = pc.index_in(column, value_set=self._texts).fill_null(UNKNOWN)
        return np.array(found, dtype=np.int32)

    def _searched(self, column: pa.StringArray) -> Codes:
        hashes = self._hash.of(column)
        places = np.searchsorted(self._sorted, hashes)
        places[places == len(self._sorted)] = 0
        codes = np.full(len(column), UNKNOWN, dtype=np.int32)
        hits = np.flatnonzero(self._sorted[places] == hashes)
        codes[hits] = self._order[places[hits]]
        same = pc.equal(column.take(pa.array(hits)), self._texts.take(pa.array(codes[hits])))
        codes[hits[~same.fill_null(False).to_numpy(zero_copy_only=False)]] = UNKNOWN
        return codes
