"""Simulated transactions as messages of a topic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

#: The columns of a message.
COLUMNS = ("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD")


@dataclass(frozen=True)
class Messages:
    """n messages."""

    values: list[bytes]
    keys: list[str]


def handbook_messages(transactions: pa.Table, block_rows: int = 10_000) -> Iterator[Messages]:
    """Encode rows of `simulate.simulation.TRANSACTIONS`."""
    for block in transactions.select(COLUMNS).to_batches(max_chunksize=block_rows):
        times = pc.strftime(block["TX_DATETIME"].cast(pa.timestamp("s")), "%Y-%m-%dT%H:%M:%S")
        parts: list[pa.Array | str] = []
        for number, name in enumerate(COLUMNS):
            quote = '"' if name == "TX_DATETIME" else ""
            column = times if quote else block[name].cast(pa.string())
            parts += [f'{"," if number else "{"}"{name}":{quote}', column]
            if quote:
                parts.append(quote)
        joined = pc.binary_join_element_wise(*parts, "}", "")
        yield Messages(
            joined.cast(pa.binary()).to_pylist(), block["CUSTOMER_ID"].cast(pa.string()).to_pylist()
        )
