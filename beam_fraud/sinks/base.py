"""The interface of a sink for flagged transactions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from beam_fraud.alerts.alert import AlertContext
from beam_fraud.errors import Code, FraudError

if TYPE_CHECKING:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions


class SinkWriter(Protocol):
    """The connection of a worker to a sink."""

    @property
    def undelivered(self) -> int:
        """Rows that wait on this machine's disk because the place has not taken them."""

    def write(
        self,
        batch: pa.RecordBatch,
        channels: Sequence[str] = (),
        context: AlertContext | None = None,
    ) -> None:
        """Write flagged rows of the schema `stages.SCORED`; idempotent.

        Args:
          batch: the rows; a sink that has a `database` takes rows of `stages.SEEN` as well.
          channels: names of channels whose alerts are queued with the rows; only a sink that has a
            `database` queues any.
          context: what these alerts tell beside their rows, if that is known.

        Raises:
          FraudError: the sink fails or cannot be reached.
        """

    def close(self) -> None:
        """Finish the writes and release the sink's place."""


@dataclass(frozen=True)
class ErasedRows:
    """Rows that an erasure has deleted, or would delete, from the tables of a sink."""

    #: Table to rows.
    rows: dict[str, int]
    #: Those of the accounts of which a table held something.
    accounts: set[str] = field(default_factory=set)


class FlaggedSink(ABC):
    """A sink for flagged transactions: a frozen dataclass that is sent to the workers.

    The launcher calls `for_run`, `check`, `begin`, then `commit` or `discard`; the graph takes rows
    there by `transform`. A sink declares what else it can do by the properties and methods that
    have a body here, so that callers need not check its class.
    """

    @property
    def database(self) -> str | None:
        """URL of the database that also stores alerts and labels; None for other sinks."""
        return None

    @property
    def archive(self) -> Path | None:
        """Directory that a stream itself fills with Parquet files, or None."""
        return None

    @property
    def connected(self) -> WriterSink | None:
        """The sink as one that is written to by connections, or None."""
        return None

    @property
    def disk(self) -> Path | None:
        """The sink's file or directory on this machine; None if it is elsewhere."""
        return None

    @property
    def patience(self) -> float:
        """For how many seconds a write is repeated while the place is down."""
        return 0.0

    @property
    def retention(self) -> str:
        """A sentence on where deleted rows remain for a while; "" if they do not."""
        return ""

    @property
    def worker_files(self) -> Mapping[str, str]:
        """Options of the URL that name files, with the path that every worker reads."""
        return {}

    def exists(self) -> bool:
        """Return whether the place exists, as far as this machine's disk shows."""
        return True

    def holds_rows(self) -> bool:
        """Return whether a commit would replace rows of an earlier run."""
        return False

    def for_run(self, out: Path | str) -> FlaggedSink:
        """Return the sink of a run over files.

        Args:
          out: `--out` of the run, absolute, or its URL.
        """
        return self

    def waiting(self, seconds: float, spill: Path | None) -> FlaggedSink:
        """Return the sink that retries while its server is down, if it has one.

        Args:
          seconds: duration of the retries.
          spill: directory for rows not written by then; None to fail.
        """
        return self

    @abstractmethod
    def streaming(self, *, here: bool) -> FlaggedSink:
        """Return the sink for a stream.

        Args:
          here: whether Beam's local runner runs the stream.

        Raises:
          UsageError: no stream can write to it there.
        """

    @abstractmethod
    def check(self, *, going_on: bool = False) -> None:
        """Check before the launch that the sink can be written to; change nothing.

        Args:
          going_on: whether a stream resumes: then a server that is down is no error of the call,
            and the stream waits for it.

        Raises:
          FraudError: it cannot be written to; one line with the reason.
        """

    def check_options(self, options: PipelineOptions) -> None:  # noqa: B027  most need none
        """Check before the launch that Beam's options have what the sink needs.

        Raises:
          UsageError: an option is missing.
          FraudError: the value of an option cannot be used.
        """

    @abstractmethod
    def begin(self, run_id: str) -> None:
        """Prepare for the rows of a run, after finishing or removing a dead run's leftovers."""

    @abstractmethod
    def commit(self, run_id: str) -> None:
        """Make the rows of a successful run the sink's contents."""

    @abstractmethod
    def discard(self, run_id: str) -> None:
        """Remove what can be removed of a failed run; do nothing after `commit`."""

    @abstractmethod
    def describe(self) -> str:
        """Return the sink for messages, with secrets masked."""

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
            "own means",
            Code.SINK_UNSUITED,
        )

    def failure_in(self, error: BaseException) -> FraudError | None:
        """Return the sink's own error if it ended the pipeline; else None."""
        return None


class WriterSink(FlaggedSink):
    """A sink that every worker connects to."""

    @property
    def connected(self) -> WriterSink:
        return self

    @abstractmethod
    def open(self, run_id: str) -> SinkWriter:
        """Return a connection for one worker of the run."""

    def transform(
        self, run_id: str, connect: Callable[[WriterSink], beam.PTransform]
    ) -> beam.PTransform:
        """The transform that `connect` makes of this sink."""
        return connect(self)
