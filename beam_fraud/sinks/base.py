"""What a place for flagged transactions does, whatever it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

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


class FlaggedSink(Protocol):
    """A place for flagged transactions: a frozen dataclass that travels to the workers.

    Everything here is for the launcher: `check`, `begin`, then `commit` or `discard`. Rows get
    there by a `WriterSink` or a `TransformSink`.
    """

    @property
    def database(self) -> str | None:
        """URL of the database that also keeps alerts and labels; None if the place is none."""

    @property
    def archive(self) -> Path | None:
        """Directory that a stream fills with Parquet files by itself; None if it has none."""

    def check(self) -> None:
        """See before the launch that the place can be written to; changes nothing.

        Raises:
          FraudError: it cannot, in one line that says why.
        """

    def begin(self, run_id: str) -> None:
        """Get ready for the rows of a run, after finishing or clearing what a dead one left."""

    def commit(self, run_id: str) -> None:
        """Make the rows of a run that has succeeded the sink's contents."""

    def discard(self, run_id: str) -> None:
        """Drop what can be dropped of a run that has failed; does nothing after `commit`."""

    def describe(self) -> str:
        """The place, for messages; secrets are masked."""

    def streaming(self, *, here: bool) -> FlaggedSink:
        """The sink as a stream writes to it.

        Args:
          here: whether Beam's local runner runs the stream.

        Raises:
          UsageError: no stream can write to it there.
        """


@runtime_checkable
class WriterSink(FlaggedSink, Protocol):
    """A place that every worker connects to."""

    def open(self, run_id: str) -> SinkWriter:
        """A connection for one worker of the run."""


@runtime_checkable
class TransformSink(FlaggedSink, Protocol):
    """A place that a transform of Beam writes to."""

    def check_options(self, options: PipelineOptions) -> None:
        """See before the launch that Beam's options have what the transform needs.

        Raises:
          UsageError: one is missing.
          FraudError: what it names cannot be used.
        """

    def failure_in(self, error: BaseException) -> FraudError | None:
        """What the place has said, if that is why a pipeline ended; None if it is not."""

    def transform(self, run_id: str) -> beam.PTransform:
        """Takes the flagged rows of a run, batches of the schema `stages.SCORED`, there."""
