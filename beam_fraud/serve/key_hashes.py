"""Hashes of the ids and keys of transactions that are values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from beam_fraud.features.hashing import Hashes, IdHash
from beam_fraud.features.matrix import Values


class KeyHashes:
    """Hashes of the id and the keys of one transaction; each column is hashed once.

    Args:
      hashing: the hash.
      row: the transaction, by the columns of `Schema.transactions`, without nulls in keys.
      columns: columns of the keys, as far as they are known.
    """

    def __init__(self, hashing: IdHash, row: Values, columns: Iterable[str]) -> None:
        names = ["transaction_id", *columns]
        words = hashing.of_few([row[name] for name in names])
        #: Both words, of the id.
        self.id = words[0]
        self._hashing, self._row = hashing, row
        self._hashed = {name: first for name, (first, _) in zip(names, words, strict=True)}

    def __call__(self, key: tuple[str, ...]) -> int:
        for name in key:
            if name not in self._hashed:
                # Of windows that have just begun.
                ((self._hashed[name], _),) = self._hashing.of_few([self._row[name]])
        return self._hashing.of_one_together([self._hashed[name] for name in key])


class ManyKeyHashes:
    """Hashes of the ids and keys of several transactions, most of them computed at once.

    Args:
      hashing: the hash.
      rows: n > 0 transactions, by the columns of `Schema.transactions`, without nulls in keys.
      columns: columns of the keys, as far as they are known.
    """

    def __init__(self, hashing: IdHash, rows: Sequence[Values], columns: Iterable[str]) -> None:
        names = ["transaction_id", *columns]
        texts = [row[name] for name in names for row in rows]
        words = np.ascontiguousarray(hashing.of_several(texts)).reshape(2, len(names), len(rows))
        #: uint64[2, n], of the ids.
        self.ids = words[:, 0]
        self._hashing, self._rows = hashing, rows
        self._hashed = dict(zip(names, words[0], strict=True))

    def __call__(self, key: tuple[str, ...]) -> Hashes:
        for name in key:
            if name not in self._hashed:
                # Of windows that have just begun.
                texts = [row[name] for row in self._rows]
                self._hashed[name] = np.ascontiguousarray(self._hashing.of_several(texts)[0])
        return self._hashing.of_words([self._hashed[name] for name in key])
