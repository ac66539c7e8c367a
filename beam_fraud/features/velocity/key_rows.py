"""The input of velocity features: key, time, amount, merchant, currency, known fraud."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.features.hashing import Hashes, IdHash
from beam_fraud.features.velocity.fixed_point import Units, to_units

Times = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class KeyRows:
    """n transactions with a key, in order of arrival."""

    #: uint64[n], hash of the key.
    key: Hashes
    #: int64[n], event time, microseconds of the epoch.
    time: Times
    #: int64[n], units of `fixed_point`.
    amount: Units
    #: uint64[n], hash of the merchant, 0 for null; None if no feature needs it.
    merchant: Hashes | None = None
    #: uint64[n], hash of the key and the currency; None if no feature needs it.
    of_currency: Hashes | None = None

    def __len__(self) -> int:
        return len(self.key)

    def take(self, rows: npt.NDArray[np.int64] | Mask | slice) -> KeyRows:
        """Return some rows, by positions, mask or slice."""
        merchant = None if self.merchant is None else self.merchant[rows]
        of_currency = None if self.of_currency is None else self.of_currency[rows]
        return KeyRows(self.key[rows], self.time[rows], self.amount[rows], merchant, of_currency)

    def by_currency(self) -> KeyRows:
        """Return the rows by key and currency, without merchants, which no amount depends on."""
        assert self.of_currency is not None
        return KeyRows(self.of_currency, self.time, self.amount)


@dataclass(frozen=True)
class Frauds:
    """m transactions labelled as frauds.

    A transaction at `t` counts a fraud if its event time is in the window, `visible <= t`, and the
    fraud is known when the transaction arrives.
    """

    #: uint64[m], hash of the key.
    key: Hashes
    #: int64[m], event time of the fraudulent transaction.
    time: Times
    #: int64[m], label time, or event time if unknown.
    visible: Times
    #: int64[m], position in `KeyRows` of the row that makes it known; None: before all rows.
    row: npt.NDArray[np.int64] | None = None
    #: uint64[m], hash of the transaction's id, or None.
    transaction: Hashes | None = None

    def __len__(self) -> int:
        return len(self.key)

    def take(self, frauds: npt.NDArray[np.int64] | Mask | slice) -> Frauds:
        """Return some frauds, by positions, mask or slice."""
        row = None if self.row is None else self.row[frauds]
        transaction = None if self.transaction is None else self.transaction[frauds]
        return Frauds(self.key[frauds], self.time[frauds], self.visible[frauds], row, transaction)


@dataclass(frozen=True)
class KeyedTransactions:
    """The result of `key_rows` for n transactions."""

    #: Transactions with a key.
    rows: KeyRows
    #: Labelled frauds among them, each known from its own row on; None without labels.
    frauds: Frauds | None
    #: bool[n], which transactions have a key; None for all.
    keyed: Mask | None
    #: bool[len(rows)], which rows lack a currency; None if none does, or no feature needs it.
    without_currency: Mask | None = None

    def spread(
        self, feature: npt.NDArray[np.float64], *, by_currency: bool = False
    ) -> npt.NDArray[np.float64]:
        """Spread a feature of the rows to all transactions.

        Args:
          feature: float64[len(rows)].
          by_currency: whether it is undefined without a currency.

        Returns:
          float64[n], NaN where it is undefined or the key is absent.
        """
        if by_currency and self.without_currency is not None:
            feature = np.where(self.without_currency, np.nan, feature)
        if self.keyed is None:
            return feature
        spread = np.full(len(self.keyed), np.nan)
        spread[self.keyed] = feature
        return spread


@dataclass(frozen=True)
class Measures:
    """Times and amounts of n transactions, which all keys share."""

    #: int64[n], microseconds.
    times: Times
    #: int64[n], units.
    amounts: Units

    @classmethod
    def of(cls, transactions: pa.RecordBatch | pa.Table) -> Measures:
        """Return those of rows of `Schema.transactions`.

        Raises:
          FraudError: an amount is too large.
        """
        amounts = np.asarray(_array(transactions, "amount"), dtype=np.float64)
        return cls(_times(_array(transactions, "event_time")), to_units(amounts))


def key_rows(
    transactions: pa.RecordBatch | pa.Table,
    key: Sequence[str],
    hashing: IdHash,
    measures: Measures | None = None,
    *,
    merchants: bool = False,
    labels: bool = False,
    currencies: bool = False,
) -> KeyedTransactions:
    """Return the rows of one key, without transactions with a null in the key.

    Args:
      transactions: n rows of `Schema.transactions`; the optional column `labelled_at`
        (timestamp[us, UTC], nullable) is the time a label was known.
      key: string columns of the key.
      hashing: one hash for all rows processed together.
      measures: times and amounts of the transactions, if they are computed already.
      merchants: whether a feature counts merchants.
      labels: whether a feature counts frauds; without a column `label` none are known.
      currencies: whether a feature aggregates amounts by currency.

    Raises:
      FraudError: an amount is too large.

    Example:
      >>> batch = pa.table({
      ...     "event_time": pa.array([1, 2], pa.timestamp("us", "UTC")),
      ...     "account_id": ["a", None],
      ...     "amount": [9.5, 1.0],
      ... })
      >>> keyed = key_rows(batch, ["account_id"], IdHash.random())
      >>> keyed.rows.time.tolist(), keyed.rows.amount.tolist()
      ([1], [95000])
      >>> keyed.spread(np.array([1.0])).tolist()
      [1.0, nan]
    """
    columns = [_array(transactions, name) for name in key]
    keyed = None
    if any(column.null_count for column in columns):
        valid = [np.asarray(column.is_valid()) for column in columns]
        keyed = np.logical_and.reduce(valid)
        # Filter before hashing: rows without a key are not needed.
        transactions, measures = transactions.filter(pa.array(keyed)), None
        columns = [_array(transactions, name) for name in key]
    keys, of_currency, without_currency = hashing.of_columns(columns), None, None
    if currencies:
        currency = _array(transactions, "currency")
        of_currency = hashing.of_words([keys, _of_few(currency, hashing)])
        without_currency = np.asarray(currency.is_null()) if currency.null_count else None
    measures = measures or Measures.of(transactions)
    rows = KeyRows(
        keys,
        measures.times,
        measures.amounts,
        _merchants(_array(transactions, "merchant_id"), hashing) if merchants else None,
        of_currency,
    )
    frauds = _frauds(transactions, rows, hashing) if labels else None
    return KeyedTransactions(rows, frauds, keyed, without_currency)


def _frauds(
    transactions: pa.RecordBatch | pa.Table, rows: KeyRows, hashing: IdHash
) -> Frauds | None:
    if "label" not in transactions.schema.names:
        return None
    labels = _array(transactions, "label")
    if labels.null_count == len(labels):
        return None
    places = np.flatnonzero(np.asarray(labels.fill_null(0) if labels.null_count else labels) == 1)
    if not len(places):
        return None
    visible = rows.time[places]
    if "labelled_at" in transactions.schema.names:
        labelled_at = _array(transactions, "labelled_at").take(pa.array(places))
        known = np.asarray(labelled_at.is_valid())
        visible = np.where(known, _times(labelled_at), visible)
    ids = None
    if "transaction_id" in transactions.schema.names:
        ids = hashing.of(_array(transactions, "transaction_id").take(pa.array(places)))
    return Frauds(rows.key[places], rows.time[places], visible, places, ids)


def _merchants(ids: pa.StringArray, hashing: IdHash) -> Hashes:
    hashes = np.maximum(hashing.of(ids), np.uint64(1))
    return np.where(np.asarray(ids.is_valid()), hashes, np.uint64(0))


def _of_few(texts: pa.StringArray, hashing: IdHash) -> Hashes:
    """Return the hashes of texts of which there are few; nulls are the empty text."""
    few = texts.fill_null("").dictionary_encode()
    hashes: Hashes = hashing.of(few.dictionary)[np.asarray(few.indices)]
    return hashes


def _times(times: pa.Array) -> Times:
    whole = times.view(pa.int64())
    # Nulls become an arbitrary number.
    return np.asarray(whole.fill_null(0) if whole.null_count else whole, dtype=np.int64)


def _array(transactions: pa.RecordBatch | pa.Table, name: str) -> pa.Array:
    column = transactions.column(name)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
