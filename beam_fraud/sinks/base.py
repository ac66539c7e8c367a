"""What a place for flagged transactions does, whatever it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from beam_fraud.alerts.alert import AlertContext
from beam_fraud.errors import FraudError

if TYPE_CHECKING:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions


class SinkWriter(Protocol):
    """A worker's connection to a sink."""

    @property
    def undelivered(self) -> int:
        """Rows that wait on this machine's disk because the place has not taken them."""

    def write(
        self,
        batch: pa.RecordBatch,
        channels: Sequence[str] = (),
        context: AlertContext | None = None,
    ) -> None:
        """Write flagged rows, of the schema `stages.SCORED`; the same twice changes nothing.

        Args:
          batch: the rows.
          channels: names of channels whose alerts are queued with the rows; only a sink that has a
            `database` queues any.
          context: what these alerts tell beside their rows, if that is known.

        Raises:
          FraudError: the place refuses or cannot be reached.
        """

    def close(self) -> None:
        """Finish what was written and release the place."""


@dataclass(frozen=True)
class ErasedRows:
    """What an erasure has deleted, or would delete, from the tables of a sink."""

    #: Table to rows.
    rows: dict[str, int]
    #: Those of the accounts of which a table held something.
    accounts: set[str] = field(default_factory=set)


class FlaggedSink(ABC):
    """A place for flagged transactions: a frozen dataclass that travels to the workers.

    The launcher calls `check`, `begin`, then `commit` or `discard`; the graph takes rows there by
    `transform`. A sink declares what else it can do by the properties and methods that have a body
    here, so that nobody asks of which class it is.
    """

    @property
    def database(self) -> str | None:
        """URL of the database that also keeps alerts and labels; None if the place is none."""
        return None

    @property
    def archive(self) -> Path | None:
        """Directory that a stream fills with Parquet files by itself; None if it has none."""
        return None

    @property
    def disk(self) -> Path | None:
        """The file or directory that the place is on this machine; None if it is elsewhere."""
        return None

    @property
    def patience(self) -> float:
        """For how many seconds a write is repeated while the place is down."""
        return 0.0

    @property
    def retention(self) -> str:
        """What of deleted rows the place keeps for a while, in a sentence; "" if nothing."""
        return ""

    @property
    def worker_files(self) -> Mapping[str, str]:
        """Options of the URL that name files, to the path that every worker reads."""
        return {}

    def exists(self) -> bool:
        """Whether the place is there, as far as this machine's disk tells."""
        return True

    def holds_rows(self) -> bool:
        """Return whether a commit would replace rows of an earlier run."""
        return False

    def waiting(self, seconds: float, spill: Path | None) -> FlaggedSink:
        """Return the sink that waits for a place that is down, if such a place can be.

        Args:
          seconds: for how long.
          spill: directory of the rows that it has not taken by then; None to fail.
        """
        return self

    @abstractmethod
    def streaming(self, *, here: bool) -> FlaggedSink:
        """Return the sink as a stream writes to it.

        Args:
          here: whether Beam's local runner runs the stream.

        Raises:
          UsageError: no stream can write to it there.
        """

    @abstractmethod
    def check(self, *, going_on: bool = False) -> None:
        """Check before the launch that the place can be written to; changes nothing.

        Args:
          going_on: whether a stream goes on, so that a place that is down now is no mistake in the
            call: it is waited for.

        Raises:
          FraudError: it cannot, in one line that says why.
        """

    def check_options(self, options: PipelineOptions) -> None:  # noqa: B027  most need none
        """Check before the launch that Beam's options have what the place needs.

        Raises:
          UsageError: one is missing.
          FraudError: what it names cannot be used.
        """

    @abstractmethod
    def begin(self, run_id: str) -> None:
        """Get ready for the rows of a run, after finishing or clearing what a dead one left."""

    @abstractmethod
    def commit(self, run_id: str) -> None:
        """Make the rows of a run that has succeeded the sink's contents."""

    @abstractmethod
    def discard(self, run_id: str) -> None:
        """Drop what can be dropped of a run that has failed; does nothing after `commit`."""

    @abstractmethod
    def describe(self) -> str:
        """Return the place, for messages; secrets are masked."""

    @abstractmethod
    def transform(
        self, run_id: str, connect: Callable[[WriterSink], beam.PTransform]
    ) -> beam.PTransform:
        """The transform that takes the flagged rows of a run, batches of `stages.SCORED`, there.

        Args:
          run_id: the run.
          connect: makes the transform of a sink that every worker connects to.
        """

    def erase(
        self, accounts: Sequence[str], before: datetime | None = None, *, dry_run: bool = False
    ) -> ErasedRows:
        """Delete rows from the tables of a place that is neither a `database` nor an `archive`.

        Args:
          accounts: whose rows; empty with `before`.
          before: the event time from which rows stay, UTC.
          dry_run: only count them.

        Raises:
          FraudError: nothing can be deleted there, the place refuses or cannot be reached.
        """
        raise FraudError(
            f"--sink {self.describe()}: `erase` can delete nothing there; delete the rows by its "
            "own means"
        )

    def failure_in(self, error: BaseException) -> FraudError | None:
        """Return what the place has said, if that is why a pipeline ended; None if it is not."""
        return None


class WriterSink(FlaggedSink):
    """A place that every worker connects to."""

    @abstractmethod
    def open(self, run_id: str) -> SinkWriter:
        """Return a connection for one worker of the run."""

    def transform(
        self, run_id: str, connect: Callable[[WriterSink], beam.PTransform]
    ) -> beam.PTransform:
        """The transform that `connect` makes of this sink."""
        return connect(self)
