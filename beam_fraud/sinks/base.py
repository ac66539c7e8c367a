"""What a place for flagged transactions does, whatever it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from beam_fraud.errors import FraudError

if TYPE_CHECKING:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions


class SinkWriter(Protocol):
    """A worker's connection to a sink."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Write flagged rows, of the schema `stages.SCORED`; the same twice changes nothing.

        Raises:
          FraudError: the place refuses or cannot be reached.
        """

    def close(self) -> None:
        """Finish what was written and let go of the place."""


class FlaggedSink(ABC):
    """A place for flagged transactions: a frozen dataclass that travels to the workers.

    Everything here is for the launcher: `check`, `begin`, then `commit` or `discard`. Rows get
    there by a `WriterSink` or a `TransformSink`. What a sink can do beyond that it says itself, by
    the properties and methods that have a body here.
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
    def worker_files(self) -> Mapping[str, str]:
        """Options of the URL that name files, to the path that every worker reads."""
        return {}

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

    def failure_in(self, error: BaseException) -> FraudError | None:
        """Return what the place has said, if that is why a pipeline ended; None if it is not."""
        return None


class WriterSink(FlaggedSink):
    """A place that every worker connects to."""

    @abstractmethod
    def open(self, run_id: str) -> SinkWriter:
        """Return a connection for one worker of the run."""


class TransformSink(FlaggedSink):
    """A place that a transform of Beam writes to."""

    @abstractmethod
    def transform(self, run_id: str) -> beam.PTransform:
        """Takes the flagged rows of a run, batches of the schema `stages.SCORED`, there."""
