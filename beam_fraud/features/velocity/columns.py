"""Velocity features as columns beside those of the transactions that they describe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.features.hashing import IdHash
from beam_fraud.features.velocity.batch.batch_features import batch_features
from beam_fraud.features.velocity.key_rows import KeyedTransactions, key_rows
from beam_fraud.features.velocity.state.velocity_state import VelocityState
from beam_fraud.schema.velocity import Velocity

Rows = TypeVar("Rows", pa.RecordBatch, pa.Table)


def by_key(velocity: Iterable[Velocity]) -> dict[tuple[str, ...], tuple[Velocity, ...]]:
    """Definitions of the same key together, in the order in which keys come first."""
    keys: dict[tuple[str, ...], tuple[Velocity, ...]] = {}
    for definition in velocity:
        keys[definition.key] = (*keys.get(definition.key, ()), definition)
    return keys


def with_velocity(transactions: Rows, definitions: Sequence[Velocity]) -> Rows:
    """Add velocity features to transactions that are complete.

    Args:
      transactions: n rows as `Schema.transactions` describes them; of rows of the same time, the
        one that stands first came first.
      definitions: of any keys.

    Returns:
      The n rows, followed by a float64 column for each feature, in the order of the definitions'
      names.

    Raises:
      FraudError: an amount is too large, or a window holds more rows than can be added up.
    """
    columns: dict[str, npt.NDArray[np.float64]] = {}
    for same_key in by_key(definitions).values():
        keyed = keyed_rows(transactions, same_key, IdHash.random())
        features = batch_features(keyed.rows, keyed.frauds, same_key)
        columns |= {name: keyed.spread(values) for name, values in features.items()}
    names = [name for definition in definitions for name in definition.names]
    return _appended(transactions, {name: columns[name] for name in names})


class VelocityWalk:
    """Adds velocity features to transactions that come block by block in the order of time.

    Gives the same bits as `with_velocity` on all blocks together, and holds no more than what is
    inside the longest window.
    """

    def __init__(self, definitions: Sequence[Velocity]) -> None:
        """Start with nothing; the definitions are of one key."""
        self._definitions = definitions
        self._hash = IdHash.random()
        self._state = VelocityState(definitions)

    def add(self, transactions: pa.RecordBatch) -> pa.RecordBatch:
        """Return the features of the next block, whose rows are no earlier than any before."""
        keyed = keyed_rows(transactions, self._definitions, self._hash)
        features = self._state.update(keyed.rows, keyed.frauds)
        return with_features(transactions, self._definitions, keyed, features)


def with_features(
    transactions: pa.RecordBatch,
    same_key: Sequence[Velocity],
    keyed: KeyedTransactions,
    features: Mapping[str, npt.NDArray[np.float64]],
) -> pa.RecordBatch:
    """Add the features of the rows that have a key to all n transactions.

    Args:
      transactions: n rows.
      same_key: definitions of one key.
      keyed: what `keyed_rows` made of the transactions.
      features: names to float64[len(keyed.rows)].

    Returns:
      The n rows, followed by a float64 column for each feature.
    """
    names = [name for definition in same_key for name in definition.names]
    return _appended(transactions, {name: keyed.spread(features[name]) for name in names})


def keyed_rows(
    transactions: pa.RecordBatch | pa.Table, same_key: Sequence[Velocity], hashing: IdHash
) -> KeyedTransactions:
    """Return the rows that definitions of one key look at (`key_rows.key_rows`)."""
    return key_rows(
        transactions,
        same_key[0].key,
        hashing,
        merchants=any(definition.needs_merchants for definition in same_key),
        labels=any(definition.needs_labels for definition in same_key),
    )


def part_of(
    transactions: pa.RecordBatch, key: Sequence[str], parts: int, hashing: IdHash
) -> npt.NDArray[np.uint64]:
    """Return which part of all transactions a row is in, so that rows of one key are in one part.

    Args:
      transactions: n rows with the string columns of `key`.
      key: columns that together are the key.
      parts: how many parts.
      hashing: the same for all rows of the parts.

    Returns:
      uint64[n] from 0 to `parts - 1`; rows without a key, which need nothing of each other, are
      spread evenly.
    """
    columns = [transactions.column(name) for name in key]
    rows = np.arange(len(transactions), dtype=np.uint64)
    hashes = hashing.of_columns([column.fill_null("") for column in columns])
    absent = np.zeros(len(transactions), dtype=bool)
    for column in columns:
        if column.null_count:
            absent |= np.asarray(column.is_null())
    # Not the lowest bits: the state of a stream is divided by those.
    return np.where(absent, rows, hashes >> np.uint64(32)) % np.uint64(parts)


def _appended(transactions: Rows, columns: Mapping[str, npt.NDArray[np.float64]]) -> Rows:
    for name, values in columns.items():
        transactions = transactions.append_column(pa.field(name, pa.float64()), pa.array(values))
    return transactions
