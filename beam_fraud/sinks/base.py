"""What a place for flagged transactions does, whatever it is."""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa


class SinkWriter(Protocol):
    """A worker's connection to a sink."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Write flagged rows, of the schema `stages.SCORED`; the same twice changes nothing.

        Raises:
          FraudError: the place refuses or cannot be reached.
        """

    def close(self) -> None:
        """Finish what was written and let go of the place."""


class FlaggedSink(Protocol):
    """A place for flagged transactions: a frozen dataclass that travels to the workers.

    Everything here but `open` is for the launcher: `check`, `begin`, then `commit` or `discard`.
    """

    def check(self) -> None:
        """See before the launch that the place can be written to; changes nothing.

        Raises:
          FraudError: it cannot, in one line that says why.
        """

    def begin(self, run_id: str) -> None:
        """Get ready for the rows of a run, after finishing or clearing what a dead one left."""

    def open(self, run_id: str) -> SinkWriter:
        """A connection for one worker of the run."""

    def commit(self, run_id: str) -> None:
        """Make the rows of a run that has succeeded the sink's contents."""

    def discard(self, run_id: str) -> None:
        """Drop what can be dropped of a run that has failed; does nothing after `commit`."""

    def describe(self) -> str:
        """The place, for messages; secrets are masked."""
