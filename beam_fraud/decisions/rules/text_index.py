"""Find texts among many others by hashes, exactly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.features.hashing import Hashes, IdHash
from beam_fraud.features.sorted_hashes import Places, SortedHashes

Codes = npt.NDArray[np.int32]
#: Rows up to which Python compares texts faster than the calls of Arrow.
_FEW_ROWS = 32
#: Code of a text that is not among them.
UNKNOWN = -1


class TextIndex:
    """Distinct texts that others are found among.

    Pickle sends it with its arrays, so that it is quickly made again.

    Args:
      texts: string[k], distinct.
      hash: hashes the texts, and those that are found among them.
    """

    def __init__(self, texts: pa.StringArray, hash: IdHash) -> None:
        #: The texts.
        self.texts = texts
        #: Its hashes are searched.
        self.hash = hash
        hashes = hash.of(texts)
        order = np.argsort(hashes)
        self._order = order.astype(np.int32)
        self._known = SortedHashes.of(hashes[order])
        #: Whether no two of the texts have one hash, so that `find` is right.
        self.distinct = not (self._known.hashes[1:] == self._known.hashes[:-1]).any()

    def __len__(self) -> int:
        return len(self.texts)

    def codes(self, column: pa.StringArray, hashes: Hashes | None = None) -> Codes:
        """Return the place of each text of a column among these, or `UNKNOWN`.

        Args:
          column: string[n]; a null is unknown.
          hashes: uint64[n], theirs, if they are known.

        Returns:
          int32[n].
        """
        if not self.distinct:
            return self.codes_by_text(column)
        codes = np.full(len(column), UNKNOWN, dtype=np.int32)
        rows, known = self._found(column, self.hash.of(column) if hashes is None else hashes)
        codes[rows] = known
        return codes

    def contains(self, column: pa.StringArray, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Return whether each text of a column is among these.

        Args:
          column: string[n]; a null is not.
          hashes: uint64[n], theirs.

        Returns:
          bool[n].
        """
        if not self.distinct:
            return np.not_equal(self.codes_by_text(column), UNKNOWN)
        result = np.zeros(len(column), dtype=bool)
        rows, _ = self._found(column, hashes)
        result[rows] = True
        return result

    def codes_by_text(self, column: pa.StringArray) -> Codes:
        """Return what `codes` does, faster for no more texts than rows: all of them are hashed."""
        codes = pc.index_in(column, value_set=self.texts).fill_null(UNKNOWN)
        return np.array(codes, dtype=np.int32)

    def _found(self, column: pa.StringArray, hashes: Hashes) -> tuple[Places, Codes]:
        """Return the rows whose texts are among these, and the places of those."""
        rows, places = self._known.search(hashes)
        known = self._order[places]
        if len(rows) <= _FEW_ROWS:
            pairs = zip(rows.tolist(), known.tolist(), strict=True)
            there = [column[row].as_py() == self.texts[code].as_py() for row, code in pairs]
            return rows[there], known[there]
        same = pc.equal(column.take(pa.array(rows)), self.texts.take(pa.array(known)))
        there = same.fill_null(False).to_numpy(zero_copy_only=False)
        return rows[there], known[there]
