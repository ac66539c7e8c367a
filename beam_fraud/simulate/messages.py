"""Simulated transactions as messages of a topic."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from beam_fraud.simulate.files import json_objects

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


#: How often a slow stream is sent on, in seconds.
_TICK = 0.01


class MessageWriter(Protocol):
    """Where messages go."""

    def write(self, values: Sequence[bytes], keys: Sequence[str]) -> None:
        """Take n messages and their keys."""


class Sender:
    """Hands messages over, `rate` of them a second or as fast as they are taken.

    If the writer makes wait, it is handed more afterwards until the rate is met again.
    """

    def __init__(self, writer: MessageWriter, rate: float | None = None) -> None:
        """Prepare to send.

        Args:
          writer: where the messages go.
          rate: messages a second, above 0; None for no limit.
        """
        self._writer = writer
        self._rate = rate
        #: Messages handed over so far.
        self.sent = 0

    def send(self, blocks: Iterable[Messages]) -> None:
        """Send messages in their order; the time of the first counts from now."""
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
