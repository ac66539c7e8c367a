"""What a run leaves under `--out DIR`: whole after a success, as it was after a failure."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow as pa

from beam_fraud.errors import FraudError, UsageError, fix_of
from beam_fraud.schema.stages import DEAD_LETTER, SCORED
from beam_fraud.storage.atomic import hidden_name, move, remove_unfinished, whole_file
from beam_fraud.storage.folder import check_writable, make_directory, reason_of
from beam_fraud.storage.parquet_writer import ParquetBlockWriter
from beam_fraud.storage.staging import Staging, abandoned, at_work, foreign_entry, locked
from beam_fraud.storage.urls import absolute, is_url

SCORES = "scores"
FEATURES = "features"
DEAD_LETTERS = "dead_letters"
#: The directory under `--out` in which a stream keeps its state.
STREAM = "stream"
#: The directory under `--out` of flagged rows that their database did not take; nothing but
#: `dead-letters replay` removes them.
UNDELIVERED = "undelivered"
#: Every directory of Parquet files that some command puts under `--out`.
_BRANCHES = (SCORES, FEATURES, DEAD_LETTERS)
#: Directories of `score`, and the schema of the files of each.
SCORE_BRANCHES = {SCORES: SCORED, DEAD_LETTERS: DEAD_LETTER}
_SUMMARY = "summary.json"


def new_run_id() -> str:
    """A name for a run: its start in UTC and six random hex digits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"


def local_directory(out: str) -> Path:
    """`--out` as an absolute path.

    Raises:
      UsageError: it is on an object store.
    """
    if is_url(out):
        raise UsageError(f"--out {out}: must be a local directory")
    return absolute(Path(out))


@dataclass(frozen=True)
class RunOutputs:
    """The directory of a run's outputs; it travels to the workers, which write to `part`.

    For the launcher: `check`, `begin`, then `publish` and `write_summary`, or `abandon`. Every
    method raises FraudError, in one line, where the file system refuses.
    """

    #: `--out`, absolute and local.
    directory: Path
    #: The run, as `new_run_id` makes it.
    run_id: str
    #: Directories of Parquet files that the run leaves, and the schema of the files of each.
    branches: Mapping[str, pa.Schema] = field(default_factory=lambda: SCORE_BRANCHES)

    @property
    def staging(self) -> Path:
        """Where the run's files wait: `DIR/.incoming-<run>`."""
        return self._staging.path

    @property
    def shown(self) -> str:
        """`--out`, for messages."""
        return str(self.directory)

    @property
    def scratch(self) -> Path:
        """For what a run on this machine keeps on its disk while it lives: that of the results."""
        return self.staging

    @property
    def outbox(self) -> Path:
        """The database of the alerts of a run without a database sink."""
        return self.directory / "outbox.db"

    @property
    def reserved(self) -> list[Path]:
        """What runs write straight under `--out`; nothing else may."""
        return [self.directory / name for name in (*_BRANCHES, UNDELIVERED, _SUMMARY)]

    @property
    def _staging(self) -> Staging:
        return Staging(self.directory, self.run_id)

    @property
    def _prefix(self) -> str:
        return f"part-{self.run_id}-"

    def part(self, branch: str) -> Path:
        """A new path, at every call, for a Parquet file of `branch` (a key of `branches`)."""
        return self.staging / branch / f"{self._prefix}{uuid.uuid4().hex[:12]}.parquet"

    def parts(self, branch: str) -> list[str]:
        """The files of `branch` that wait in the staging."""
        return sorted(map(str, (self.staging / branch).glob("part-*.parquet")))

    def place(self, branch: str) -> str:
        """Where the files of `branch` are in the end."""
        return str(self.directory / branch)

    def check(self) -> None:
        """See that the directory can be written to and that what would be replaced is ours.

        Raises:
          FraudError: it is a file, not writable, or a branch holds what no run wrote.
        """
        check_writable(self.directory)
        if (self.directory / STREAM).is_dir():
            raise FraudError(
                f"--out {self.directory}: holds what a stream has written; give another directory"
            )
        for branch in self.branches:
            foreign = foreign_entry(self.directory / branch)
            if foreign is not None:
                raise FraudError(
                    f"--out {self.directory}: {foreign} was not written by a run and would be "
                    "replaced; move it away or give another directory"
                )
        if (self.directory / _SUMMARY).is_dir():
            raise FraudError(f"--out {self.directory}: {_SUMMARY} is a directory; move it away")

    def begin(self) -> None:
        """Make the staging, after finishing or clearing what killed runs left.

        Raises:
          FraudError: another run is at work there, or the file system refuses.
        """
        self.check()
        make_directory(self.directory)
        try:
            with locked(self.directory):
                self._finish_abandoned()
                self._refuse_company(", or give another directory")
                self._staging.claim()
            for branch in self.branches:
                (self.staging / branch).mkdir()
        except OSError as error:
            raise self.failure(error) from None

    def publish(self) -> None:
        """Put the run's files in the place of what an earlier run left, and remove the staging.

        A branch without rows gets an empty file. The summary of the earlier run goes first: one
        that is there always describes the files beside it.
        """
        self.check()
        try:
            for branch, schema in self.branches.items():
                if not any((self.staging / branch).glob("part-*.parquet")):
                    ParquetBlockWriter(self.part(branch), schema).close()
            self._staging.mark_ready()
            with locked(self.directory):
                self._swap_in(self._staging)
        except OSError as error:
            self._staging.release()
            raise self.failure(error) from None
        self._staging.remove()

    def abandon(self) -> None:
        """Remove the staging of a failed run, unless publishing it has begun."""
        if not self._staging.ready:
            self._staging.remove()

    def write_summary(self, summary: Mapping[str, object]) -> bool:
        """Write `summary.json`, unless the files beside it are no longer this run's.

        Returns:
          Whether it was written. If not, another run has published since.
        """
        path = self.directory / _SUMMARY
        hidden = hidden_name(self.directory, f"{_SUMMARY}-{self.run_id}")
        text = msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n"
        try:
            with locked(self.directory):
                if not self._published():
                    return False
                with whole_file(path, hidden=hidden) as file:
                    file.write(text)
        except OSError as error:
            raise self.failure(error) from None
        return True

    @contextmanager
    def held(self) -> Iterator[None]:
        """While the body runs, no run begins or publishes there; what killed runs left is finished.

        Raises:
          FraudError: a run is at work there.
        """
        try:
            with locked(self.directory):
                self._finish_abandoned()
                self._refuse_company()
                yield
        except OSError as error:
            raise self.failure(error) from None

    def failure(self, error: OSError) -> FraudError:
        """The one line for a file system that refuses; for workers that write to `part`."""
        return FraudError(
            f"--out {self.directory}: cannot be written ({reason_of(error)}); {fix_of(error)}"
        )

    def _refuse_company(self, otherwise: str = "") -> None:
        if at_work(self.directory):
            raise FraudError(
                f"--out {self.directory}: a run is writing there; wait for its end{otherwise}"
            )

    def _published(self) -> bool:
        """Whether the files in every branch are this run's; each has one at least."""
        for branch in self.branches:
            parts = list((self.directory / branch).glob("part-*.parquet"))
            if not parts or not all(part.name.startswith(self._prefix) for part in parts):
                return False
        return True

    def _finish_abandoned(self) -> None:
        for staging in abandoned(self.directory):
            if staging.ready:
                self._swap_in(staging)
            staging.remove()
        for summary in self.directory.glob(f".{_SUMMARY}-*"):
            summary.unlink()

    def _swap_in(self, staging: Staging) -> None:
        # Each step looks at what is there, so that this can be done again from any point.
        (self.directory / _SUMMARY).unlink(missing_ok=True)
        # All branches: a run that is finished here may have been of another command.
        for branch in _BRANCHES:
            new, final = staging.path / branch, self.directory / branch
            if new.exists():
                remove_unfinished(new)
                if final.exists():
                    move(final, staging.path / f"replaced-{branch}")
                move(new, final)
