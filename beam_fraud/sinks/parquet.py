"""The sink for a directory of Parquet files."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from beam_fraud.alerts.alert import AlertContext
from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.stages import SCORED
from beam_fraud.sinks.base import WriterSink
from beam_fraud.storage.atomic import check_writable, make_directory, move
from beam_fraud.storage.lock import locked_directory
from beam_fraud.storage.parquet_writer import ParquetBlockWriter
from beam_fraud.storage.staging import (
    UNFINISHED_PARTS,
    Staging,
    abandoned,
    at_work,
    foreign_entry,
)
from beam_fraud.wording import reason_of

#: Pattern of the names of parts.
PARTS = "part-*.parquet"


@dataclass(frozen=True)
class ParquetSink(WriterSink):
    """`part-*.parquet` in a directory; the rows of a run replace those of the last."""

    #: Absolute path of the directory.
    directory: Path
    #: Whether a stream writes to it, which resumes its unfinished parts.
    of_stream: bool = False

    @property
    def archive(self) -> Path:
        return self.directory

    @property
    def disk(self) -> Path:
        return self.directory

    def exists(self) -> bool:
        """Return whether the directory exists."""
        return self.directory.is_dir()

    def holds_rows(self) -> bool:
        """Return whether it has parts of an earlier run."""
        return any(self.directory.glob(PARTS))

    def streaming(self, *, here: bool) -> ParquetSink:
        """Return the sink that accepts the unfinished parts of a stream as its own."""
        return replace(self, of_stream=True)

    def check(self, *, going_on: bool = False) -> None:
        """Check that the directory is writable and holds no foreign files.

        Raises:
          FraudError: it is a file, not writable, has foreign files, or the run would replace the
            rows of a stream that has not ended.
        """
        check_writable(self.directory)
        if not self.of_stream and any(self.directory.glob(UNFINISHED_PARTS)):
            raise FraudError(
                f"--sink {self.describe()}: a stream is writing there, or one that was killed has "
                "left a part unfinished; let it end first, or give another directory",
                Code.OUTPUT_IN_USE,
            )
        foreign = foreign_entry(self.directory, of_stream=self.of_stream)
        if foreign is not None:
            raise FraudError(
                f"--sink {self.describe()}: holds {foreign.name}, which no run wrote; "
                "give a directory of its own",
                Code.OUTPUT_OCCUPIED,
            )

    def begin(self, run_id: str) -> None:
        """Create the directory; publish or remove the staged parts of a killed run.

        Raises:
          FraudError: another run uses the directory, or the file system reports an error.
        """
        self.check()
        make_directory(self.directory)
        try:
            with locked_directory(self.directory):
                for staging in abandoned(self.directory):
                    if staging.ready:
                        self._move_in(staging)
                    staging.remove()
                if at_work(self.directory):
                    raise FraudError(
                        f"--sink {self.describe()}: a run is writing there; wait for its end, or "
                        "give another directory",
                        Code.OUTPUT_IN_USE,
                    )
                Staging(self.directory, run_id).claim()
        except OSError as error:
            raise self._failure(error) from None

    def open(self, run_id: str) -> ParquetSinkWriter:
        """Return a writer of one part."""
        return ParquetSinkWriter(Staging(self.directory, run_id), self._failure)

    def commit(self, run_id: str) -> None:
        """Replace the parts of earlier runs by this run's; without rows, by an empty part."""
        self.check()
        staging = Staging(self.directory, run_id)
        try:
            if not any(staging.path.glob(PARTS)):
                ParquetBlockWriter(part_path(staging), SCORED).close()
            staging.mark_ready()
            self._move_in(staging)
        except OSError as error:
            staging.release()
            raise self._failure(error) from None
        staging.remove()

    def discard(self, run_id: str) -> None:
        """Remove the staged parts unless their publication has begun."""
        staging = Staging(self.directory, run_id)
        if not staging.ready:
            staging.remove()

    def describe(self) -> str:
        return f"parquet:{self.directory}"

    def _move_in(self, staging: Staging) -> None:
        # Names tell the states apart, so that publication can resume from any point.
        for part in self.directory.glob(PARTS):
            if not part.name.startswith(f"part-{staging.run_id}-"):
                part.unlink()
        for part in staging.path.glob(PARTS):
            move(part, self.directory / part.name)

    def _failure(self, error: OSError) -> FraudError:
        return FraudError(
            f"--sink {self.describe()}: cannot be written ({reason_of(error)})",
            Code.OUTPUT_UNWRITABLE,
        )


class ParquetSinkWriter:
    """A writer of one part, created on the first row."""

    #: A row is on the disk or fails the run.
    undelivered = 0

    def __init__(self, staging: Staging, failure: Callable[[OSError], FraudError]) -> None:
        """Write to a staging.

        Args:
          staging: of the run.
          failure: makes the sink's one line of an error of the file system.
        """
        self._staging = staging
        self._failure = failure
        self._writer: ParquetBlockWriter | None = None

    def write(
        self,
        batch: pa.RecordBatch,
        channels: Sequence[str] = (),
        context: AlertContext | None = None,
    ) -> None:
        assert not channels, "a directory queues no alerts"
        if not batch.num_rows:
            return
        try:
            if self._writer is None:
                self._writer = ParquetBlockWriter(part_path(self._staging), SCORED)
            self._writer.write(batch)
        except OSError as error:
            raise self._failure(error) from None

    def close(self) -> None:
        if self._writer is None:
            return
        try:
            self._writer.close()
        except OSError as error:
            raise self._failure(error) from None
        self._writer = None


def part_path(staging: Staging) -> Path:
    """Return a new path for a part of the staging's run."""
    return staging.path / f"part-{staging.run_id}-{uuid.uuid4().hex[:12]}.parquet"
