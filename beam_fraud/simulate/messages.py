"""Simulated transactions as messages of a topic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from beam_fraud.simulate.rows import json_objects

#: Rows that become messages at once.
BLOCK_ROWS = 10_000
#: What the fraud-detection handbook's transactions have; the kind of fraud is the simulator's own.
COLUMNS = (
    "TRANSACTION_ID",
    "TX_DATETIME",
    "CUSTOMER_ID",
    "TERMINAL_ID",
    "TX_AMOUNT",
    "TX_FRAUD",
)


@dataclass(frozen=True)
class Messages:
    """n messages."""

    #: What they say.
    values: list[bytes]
    #: The account of each, so that what one account does stays in one partition and in order.
    keys: list[str]


def handbook_messages(transactions: pa.Table, block_rows: int = BLOCK_ROWS) -> Iterator[Messages]:
    """Transactions as JSON objects with the handbook's columns, which the preset `handbook` reads.

    The features of a message are those of the row, bit for bit.

    Args:
      transactions: n rows of `simulation.TRANSACTIONS`, in any order, which is kept.
      block_rows: how many become messages at once.

    Yields:
      At most `block_rows` messages at a time.
    """
    for block in transactions.select(COLUMNS).to_batches(max_chunksize=block_rows):
        objects = json_objects(block).cast(pa.binary())
        yield Messages(objects.to_pylist(), block["CUSTOMER_ID"].cast(pa.string()).to_pylist())
