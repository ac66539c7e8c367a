"""A shard of a step that remembers: what it takes, gives on, and wants kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from beam_fraud.storage.checkpoint import FOREVER


@dataclass(frozen=True)
class Delta:
    """A piece of what a shard knows, as it is kept."""

    #: In a form of the shard's own.
    data: bytes
    #: Newest event time in it (microseconds), which says when it may be dropped
    #: (`Shard.needed_from`); `FOREVER` for what is needed until something replaces it.
    newest: int = FOREVER


@dataclass(frozen=True)
class Effects:
    """What came of an event: rows for the next step, and what has to be kept."""

    #: Rows that go on.
    rows: Sequence[pa.RecordBatch] = ()
    #: What the shard knows now beside what it had kept before.
    deltas: Sequence[Delta] = ()
    #: Whether `deltas` take the place of all that was kept.
    replaces: bool = False
    #: What is to be done once all this is kept for good, in any order; not at all if the process
    #: dies just then. Only hosts that are told of that moment do it.
    afterwards: Sequence[Callable[[], None]] = ()


class Shard(Protocol):
    """One shard of a step, decoded in memory.

    Whoever hosts it (`transforms.stateful`) calls `restore` first, once, and keeps the deltas of
    every call in the order in which they came, in one transaction with what the rows lead to. After
    a failure a new shard is restored from what had been kept by then, and sees again the batches
    that came since: a shard must make of them what it made before.
    """

    @property
    def needed_from(self) -> int:
        """Deltas whose `newest` is before this (event time, microseconds) may be dropped."""

    @property
    def waiting(self) -> bool:
        """Whether `tick` has to be called though nothing comes."""

    def restore(self, kept: Sequence[bytes]) -> Effects:
        """Take up what was kept, in the order in which it was; nothing if the shard is new.

        Raises:
          FraudError: it cannot be read, or is of other options than these.
        """

    def take(self, batch: pa.RecordBatch) -> Effects:
        """Return the next batch."""

    def tick(self, now: float) -> Effects:
        """Time has passed: `now` is in seconds of the epoch. Called every now and then."""

    def finish(self) -> Effects:
        """Return the stream has ended; nothing comes after this."""

    def merge(self, kept: Sequence[bytes]) -> bytes:
        """One delta that says what these said, which were kept in this order; not of `FOREVER`."""


class Unaged:
    """The part of a `Shard` that says so: all its deltas are of `FOREVER`."""

    @property
    def needed_from(self) -> int:
        """Nothing may be dropped."""
        return -(1 << 63)

    def merge(self, kept: Sequence[bytes]) -> bytes:
        """Never asked for: deltas of `FOREVER` are not merged."""
        raise NotImplementedError("what this shard keeps does not age, so it is not merged")
