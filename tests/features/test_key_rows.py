"""Transactions as input of velocity features."""

import numpy as np
import pyarrow as pa
import pytest

from beam_fraud.errors import FraudError
from beam_fraud.features.hashing import IdHash
from beam_fraud.features.velocity.key_rows import key_rows
from beam_fraud.schema.schema import EVENT_TIME

HASH = IdHash.random()
TRANSACTIONS = pa.table(
    {
        "transaction_id": ["t0", "t1", "t2", "t3"],
        "event_time": pa.array([10, 20, 30, 40], EVENT_TIME),
        "account_id": ["a", None, "b", "a"],
        "merchant_id": ["m", "m", None, "n"],
        "amount": [1.0, 2.0, -3.0, 4.25],
        "label": pa.array([0, 1, 1, 1], pa.int8()),
    }
)


def test_rows_without_a_key_are_left_out() -> None:
    keyed = key_rows(TRANSACTIONS, ["account_id"], HASH, merchants=True, labels=True)
    assert keyed.rows.time.tolist() == [10, 30, 40]
    assert keyed.rows.amount.tolist() == [10_000, -30_000, 42_500]
    assert keyed.rows.key.tolist() == HASH.of(pa.array(["a", "b", "a"])).tolist()
    assert keyed.frauds is not None
    assert keyed.frauds.row.tolist() == [1, 2]
    assert keyed.frauds.transaction.tolist() == HASH.of(pa.array(["t2", "t3"])).tolist()
    np.testing.assert_array_equal(keyed.spread(np.array([1.0, 2, 3])), [1, np.nan, 2, 3])


def test_a_row_without_a_merchant_has_merchant_zero() -> None:
    merchants = key_rows(TRANSACTIONS, ["account_id"], HASH, merchants=True).rows.merchant
    assert merchants is not None
    assert merchants[1] == 0
    assert 0 not in merchants[[0, 2]]


def test_a_key_of_two_columns_needs_both_in_order() -> None:
    keyed = key_rows(TRANSACTIONS, ["account_id", "merchant_id"], HASH)
    assert keyed.rows.time.tolist() == [10, 40]
    turned = key_rows(TRANSACTIONS, ["merchant_id", "account_id"], HASH)
    assert not set(keyed.rows.key.tolist()) & set(turned.rows.key.tolist())


def test_pairs_that_read_the_same_differ() -> None:
    left, right = HASH.of(pa.array(["ab", "a"])), HASH.of(pa.array(["c", "bc"]))
    first, second = HASH.of_words([left, right]).tolist()
    assert first != second


@pytest.mark.parametrize("cut", [slice(0, 2), slice(1, 4), slice(2, 2)])
def test_a_part_of_a_table_is_like_a_table(cut: slice) -> None:
    part = TRANSACTIONS.slice(cut.start, cut.stop - cut.start)
    whole = key_rows(TRANSACTIONS, ["merchant_id"], HASH).rows.key.tolist()
    whole.insert(2, None)
    expected = [key for key in whole[cut] if key is not None]
    assert key_rows(part, ["merchant_id"], HASH).rows.key.tolist() == expected
    for batch in part.combine_chunks().to_batches():
        assert key_rows(batch, ["merchant_id"], HASH).rows.key.tolist() == expected


def test_a_label_is_visible_when_it_was_given() -> None:
    value = pa.array([5, 6, None, 77], EVENT_TIME)
    labelled = TRANSACTIONS.append_column("labelled_at", value)
    frauds = key_rows(labelled, ["account_id"], HASH, labels=True).frauds
    assert frauds is not None
    assert frauds.time.tolist() == [30, 40]
    assert frauds.visible.tolist() == [30, 77]


def test_without_labels_no_fraud_is_known() -> None:
    unlabelled = TRANSACTIONS.drop_columns(["label"])
    assert key_rows(unlabelled, ["account_id"], HASH, labels=True).frauds is None


def test_an_amount_that_is_too_large_is_an_error() -> None:
    table = TRANSACTIONS.set_column(4, "amount", pa.array([1.0, 2.0, 1e11, 4.0]))
    assert len(key_rows(table, ["merchant_id"], HASH).rows) == 3, (
        "the row without a key is not looked at"
    )
    with pytest.raises(FraudError, match="cannot be added up"):
        key_rows(table, ["account_id"], HASH)
