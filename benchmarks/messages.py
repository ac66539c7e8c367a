"""Simulated transactions as messages of a topic."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

#: The columns of a message.
COLUMNS = ("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD")


@dataclass(frozen=True)
class Messages:
    """Keys and values, in the order in which they are sent."""

    #: The account of each, which chooses its partition.
    keys: list[bytes]
    #: JSON objects.
    values: list[bytes]

    def extend(self, others: Messages) -> None:
        """Add messages at the end."""
        self.keys.extend(others.keys)
        self.values.extend(others.values)


def encode(transactions: pa.RecordBatch | pa.Table) -> Messages:
    """Encode rows of `simulate.simulation.TRANSACTIONS`."""
    accounts = transactions["CUSTOMER_ID"].cast(pa.string()).cast(pa.binary())
    # ISO times and shortest decimals, as `beam-fraud simulate` writes them.
    times = pc.strftime(transactions["TX_DATETIME"].cast(pa.timestamp("s")), "%Y-%m-%dT%H:%M:%S")
    text = [
        times if name == "TX_DATETIME" else transactions[name].cast(pa.string()) for name in COLUMNS
    ]
    parts: list[pa.Array | str] = []
    for number, (name, column) in enumerate(zip(COLUMNS, text, strict=True)):
        quote = '"' if name == "TX_DATETIME" else ""
        parts += [f'{"," if number else "{"}"{name}":{quote}', column]
        if quote:
            parts.append(quote)
    joined = pc.binary_join_element_wise(*parts, "}", "")
    return Messages(accounts.to_pylist(), joined.cast(pa.binary()).to_pylist())
