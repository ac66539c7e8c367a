"""Add velocity features as columns of transactions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.features.hashing import IdHash
from beam_fraud.features.velocity.batch.batch_features import batch_features
from beam_fraud.features.velocity.key_rows import KeyedTransactions, Measures, key_rows
from beam_fraud.features.velocity.state.velocity_state import VelocityState
from beam_fraud.schema.velocity import Velocity

Rows = TypeVar("Rows", pa.RecordBatch, pa.Table)


def by_key(velocity: Iterable[Velocity]) -> dict[tuple[str, ...], tuple[Velocity, ...]]:
    """Group definitions by key, in order of first appearance."""
    keys: dict[tuple[str, ...], tuple[Velocity, ...]] = {}
    for definition in velocity:
        keys[definition.key] = (*keys.get(definition.key, ()), definition)
    return keys


def with_velocity(transactions: Rows, definitions: Sequence[Velocity]) -> Rows:
    """Add velocity features to a complete set of transactions.

    Args:
      transactions: n rows of `Schema.transactions`; on equal times, the earlier row came first.
      definitions: of any keys.

    Returns:
      The n rows, then a float64 column per feature, in the order of the definitions' names.

    Raises:
      FraudError: an amount is too large, or a window holds more rows than sums are exact for.
    """
    columns: dict[str, npt.NDArray[np.float64]] = {}
    for same_key in by_key(definitions).values():
        keyed = keyed_rows(transactions, same_key, IdHash.random())
        features = batch_features(keyed.rows, keyed.frauds, same_key)
        columns |= spread(keyed, same_key, features)
    names = [name for definition in definitions for name in definition.names]
    return with_columns(transactions, {name: columns[name] for name in names})


class VelocityWalk:
    """Add velocity features to blocks of transactions in time order.

    Results equal those of `with_velocity` on all blocks bit by bit; memory holds the longest
    window.
    """

    def __init__(self, definitions: Sequence[Velocity]) -> None:
        """Start empty; all definitions share a key."""
        self._definitions = definitions
        self._hash = IdHash.random()
        self._state = VelocityState(definitions)

    def add(self, transactions: pa.RecordBatch) -> pa.RecordBatch:
        """Return the features of the next block, which is not before any earlier row."""
        keyed = keyed_rows(transactions, self._definitions, self._hash)
        features = self._state.update(keyed.rows, keyed.frauds)
        return with_features(transactions, self._definitions, keyed, features)

    def fill(self, transactions: pa.RecordBatch) -> None:
        """Add the next block without computing its features."""
        keyed = keyed_rows(transactions, self._definitions, self._hash)
        self._state.add(keyed.rows, keyed.frauds)


def with_features(
    transactions: pa.RecordBatch,
    same_key: Sequence[Velocity],
    keyed: KeyedTransactions,
    features: Mapping[str, npt.NDArray[np.float64]],
) -> pa.RecordBatch:
    """Add the features of keyed rows to all n transactions.

    Args:
      transactions: n rows.
      same_key: definitions of one key.
      keyed: the result of `keyed_rows`.
      features: names to float64[len(keyed.rows)].

    Returns:
      The n rows, then a float64 column per feature.
    """
    return with_columns(transactions, spread(keyed, same_key, features))


def spread(
    keyed: KeyedTransactions,
    same_key: Sequence[Velocity],
    features: Mapping[str, npt.NDArray[np.float64]],
) -> dict[str, npt.NDArray[np.float64]]:
    """Spread the features of keyed rows to all n transactions; float64[n] each."""
    by_currency = frozenset[str]()
    if keyed.without_currency is not None:
        by_currency = frozenset(n for spec in same_key for n in spec.amounts_by_currency)
    return {
        name: keyed.spread(feature, by_currency=name in by_currency)
        for name, feature in features.items()
    }


def keyed_rows(
    transactions: pa.RecordBatch | pa.Table,
    same_key: Sequence[Velocity],
    hashing: IdHash,
    measures: Measures | None = None,
) -> KeyedTransactions:
    """Return the rows for definitions of one key (`key_rows.key_rows`)."""
    return key_rows(
        transactions,
        same_key[0].key,
        hashing,
        measures,
        merchants=any(definition.needs_merchants for definition in same_key),
        labels=any(definition.needs_labels for definition in same_key),
        currencies=any(definition.amounts_by_currency for definition in same_key),
    )


def part_of(
    transactions: pa.RecordBatch, key: Sequence[str], parts: int, hashing: IdHash
) -> npt.NDArray[np.uint64]:
    """Return the part of each row; rows of one key share a part.

    Args:
      transactions: n rows with the string columns of `key`.
      key: columns of the key.
      parts: number of parts.
      hashing: one hash for all rows.

    Returns:
      uint64[n] from 0 to `parts - 1`; rows without a key, which are independent, are spread evenly.
    """
    columns = [transactions.column(name) for name in key]
    rows = np.arange(len(transactions), dtype=np.uint64)
    hashes = hashing.of_columns([column.fill_null("") for column in columns])
    absent = np.zeros(len(transactions), dtype=bool)
    for column in columns:
        if column.null_count:
            absent |= np.asarray(column.is_null())
    # Not the lowest bits, which divide the state of a stream.
    return np.where(absent, rows, hashes >> np.uint64(32)) % np.uint64(parts)


def with_columns(transactions: Rows, columns: Mapping[str, npt.NDArray[np.float64]]) -> Rows:
    """Append features, float64[n] each, as columns to n transactions."""
    # At once: appended one by one, columns take ten times as long for a few rows.
    arrays = [*transactions.columns, *map(pa.array, columns.values())]
    described = _with_features(transactions.schema, tuple(columns))
    return type(transactions).from_arrays(arrays, schema=described)


#: Names of features to the last schema that they were added to, and the result.
_described: dict[tuple[str, ...], tuple[pa.Schema, pa.Schema]] = {}


def _with_features(schema: pa.Schema, names: tuple[str, ...]) -> pa.Schema:
    """Return a schema with a float64 column for each name; the same for many batches in turn."""
    before, described = _described.get(names, (None, None))
    if before is None or not schema.equals(before, check_metadata=True):
        fields = [*schema, *(pa.field(name, pa.float64()) for name in names)]
        described = pa.schema(fields, schema.metadata)
        _described[names] = schema, described
    return described
