"""The interface of a shard of a stateful step: input, output and state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from beam_fraud.storage.checkpoint import FOREVER


@dataclass(frozen=True)
class Delta:
    """A piece of a shard's state."""

    #: Encoded by the shard.
    data: bytes
    #: Newest event time in it (microseconds), which decides its expiry (`Shard.needed_from`);
    #: `FOREVER` if it is needed until replaced.
    newest: int = FOREVER


@dataclass(frozen=True)
class Effects:
    """The result of a call: rows for the next step, and state to commit."""

    #: Rows to emit.
    rows: Sequence[pa.RecordBatch] = ()
    #: New state beside the committed one.
    deltas: Sequence[Delta] = ()
    #: Whether `deltas` replace all earlier state.
    replaces: bool = False
    #: Actions after the commit, in any order; lost if the process dies just then. Only hosts that
    #: are notified of the commit run them.
    afterwards: Sequence[Callable[[], None]] = ()


class Shard(Protocol):
    """One shard of a step, decoded in memory.

    Its host (`transforms.stateful`) calls `restore` first, once, and commits the deltas of every
    call in order, in one transaction with the results of the rows. After a failure a new shard is
    restored from the last commit and gets the later batches again: it must return the same results.
    """

    @property
    def needed_from(self) -> int:
        """Deltas whose `newest` is before this (event time, microseconds) may be dropped."""

    @property
    def waiting(self) -> bool:
        """Whether `tick` must be called even without input."""

    def restore(self, deltas: Sequence[bytes]) -> Effects:
        """Restore the committed deltas in order; none for a new shard.

        Raises:
          FraudError: it cannot be read, or has other options.
        """

    def take(self, batch: pa.RecordBatch) -> Effects:
        """Process the next batch."""

    def tick(self, now: float) -> Effects:
        """Process the passage of time; `now` is in seconds of the epoch. Called now and then."""

    def finish(self) -> Effects:
        """Process the end of the stream; no call follows."""

    def merge(self, deltas: Sequence[bytes]) -> bytes:
        """Merge deltas, in their order, to one; never called for `FOREVER`."""


class Unaged:
    """The part of a `Shard` whose deltas are all `FOREVER`."""

    @property
    def needed_from(self) -> int:
        """No delta may be dropped."""
        return -(1 << 63)

    def merge(self, deltas: Sequence[bytes]) -> bytes:
        """Never called: deltas of `FOREVER` are not merged."""
        raise NotImplementedError("what this shard keeps does not age, so it is not merged")
