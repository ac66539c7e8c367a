"""Send simulated transactions to a topic."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from beam_fraud.simulate.files import json_objects
from beam_fraud.simulate.simulation import TERMINAL_TYPE

#: Rows converted at once.
BLOCK_ROWS = 10_000
#: Columns of the handbook's transactions; the kind of fraud is the simulator's own.
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

    #: Values of the messages.
    values: list[bytes]
    #: Keys: accounts, so that an account's messages stay in one partition and in order.
    keys: list[str]


def handbook_messages(transactions: pa.Table, block_rows: int = BLOCK_ROWS) -> Iterator[Messages]:
    """Yield transactions as JSON objects with the handbook's columns, for preset `handbook`.

    Features of a message equal those of the row exactly.

    Args:
      transactions: n rows of `simulation.TRANSACTIONS`, in any order, which is kept.
      block_rows: rows converted at once.

    Yields:
      At most `block_rows` messages at a time.
    """
    columns = [*COLUMNS, *({TERMINAL_TYPE.name} & set(transactions.column_names))]
    for block in transactions.select(columns).to_batches(max_chunksize=block_rows):
        objects = json_objects(block).cast(pa.binary())
        yield Messages(objects.to_pylist(), block["CUSTOMER_ID"].cast(pa.string()).to_pylist())


#: Seconds between two flushes of a slow stream.
_TICK = 0.01


class MessageWriter(Protocol):
    """A receiver of messages."""

    def write(self, values: Sequence[bytes], keys: Sequence[str]) -> None:
        """Write n messages with their keys."""


class Sender:
    """Send messages at `rate` per second, or as fast as the writer accepts them.

    After a delay of the writer, send faster until the rate is met again.
    """

    def __init__(self, writer: MessageWriter, rate: float | None = None) -> None:
        """Prepare to send.

        Args:
          writer: the receiver.
          rate: messages per second, above 0; None for no limit.
        """
        self._writer = writer
        self._rate = rate
        #: Messages sent so far.
        self.sent = 0

    def send(self, blocks: Iterable[Messages]) -> None:
        """Send messages in order; the rate counts from now."""
        began, before = time.monotonic(), self.sent
        for block in blocks:
            start, rows = 0, len(block.values)
            while start < rows:
                end = rows
                if self._rate is not None:
                    due_before = self.sent - before
                    wait = (due_before + 1) / self._rate - (time.monotonic() - began)
                    time.sleep(max(_TICK, wait))
                    due = int((time.monotonic() - began) * self._rate)
                    end = min(rows, start + due - due_before)
                if end > start:
                    self._writer.write(block.values[start:end], block.keys[start:end])
                    self.sent += end - start
                    start = end
