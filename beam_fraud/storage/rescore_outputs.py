"""The outputs of `rescore` under `--out`: a directory per partition, complete or absent."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

from beam_fraud.errors import Code, FraudError, fix_of
from beam_fraud.storage import atomic
from beam_fraud.storage.batch_outputs import DEAD_LETTERS, SCORES, STREAM
from beam_fraud.storage.staging import Staging, abandoned, at_work
from beam_fraud.storage.store import Directory, Store, check_output, store_at
from beam_fraud.storage.urls import Place
from beam_fraud.wording import reason_of

PARTITIONS = "partitions"
MANIFEST, SUMMARY = "manifest.json", "summary.json"
#: In each partition: what it was made of.
RECORD = "partition.json"
#: Prefix of records of failures in the staging.
_FAILED = "failed-"


def _is_ours(manifest: bytes) -> bool:
    """Return whether a manifest lists partitions; a damaged one may be of any command."""
    try:
        document = msgspec.json.decode(manifest)
    except msgspec.DecodeError:
        return True
    return isinstance(document, dict) and "partitions" in document


@dataclass(frozen=True)
class RescoreOutputs(ABC):
    """`OUT/partitions/<name>/{scores,dead_letters,partition.json}` and the files beside.

    The launcher calls `check`, then all else within `writing`. Whoever scores, the launcher or a
    worker, calls `part`, `files` and `publish` within an `attempt`: files of a partition grow on
    the own disk and appear together. Every method raises FraudError, one line, if the file system
    fails.
    """

    #: `--out`, absolute, or a URL without a trailing slash.
    directory: Path | str
    #: Run id of `new_run_id`.
    run_id: str

    @property
    def shown(self) -> str:
        """`--out`, for messages."""
        return str(self.directory)

    @property
    @abstractmethod
    def outbox(self) -> Path | None:
        """Database of alerts that wait, without a database of flagged rows; None if impossible."""

    def place(self, name: str) -> str:
        """Return the path or URL of a name under `--out`."""
        return self._store.place(name)

    def check(self) -> None:
        """Check that the outputs are writable, and that no other command has outputs there.

        Raises:
          UsageError: no file system supports the URL.
          FraudError: it is a file, not writable, or has files of another command.
        """
        check_output(self._store, f"--out {self.shown}")
        for name in (SCORES, STREAM):
            with self._one_line_errors():
                there = self._store.holds(name)
            if there:
                raise FraudError(
                    f"--out {self.shown}: has files of another command ({name}); give another "
                    "directory",
                    Code.OUTPUT_OCCUPIED,
                )
        manifest = self.read(MANIFEST)
        if manifest is not None and not _is_ours(manifest):
            raise FraudError(
                f"--out {self.shown}: has a {MANIFEST} that is not of rescore; give another "
                "directory",
                Code.OUTPUT_OCCUPIED,
            )

    @abstractmethod
    def writing(self) -> AbstractContextManager[None]:
        """Exclude other runs while the body runs; first remove what killed runs left.

        Raises:
          FraudError: another run uses the place.
        """

    @abstractmethod
    def attempt(self) -> AbstractContextManager[Self]:
        """Yield the outputs for one attempt at partitions, which others may repeat."""

    @abstractmethod
    def note_failure(self, partition: str, record: bytes) -> None:
        """Keep the record of a partition that a worker could not complete, for `failures`."""

    @abstractmethod
    def failures(self) -> dict[str, bytes]:
        """Return the records of `note_failure` in this run, by name."""

    def scratch(self) -> Path:
        """Create and return a new directory on this disk, which disappears with the attempt.

        Raises:
          OSError: it cannot be created.
        """
        return Path(tempfile.mkdtemp(prefix="scratch-", dir=self._staged_at))

    def part(self, partition: str, branch: str, name: str) -> Path:
        """Return the path of a staged file of a partition, in an existing directory.

        Args:
          partition: name of the partition.
          branch: `SCORES` or `DEAD_LETTERS`.
          name: name of the file without its ending.

        Raises:
          OSError: the directory cannot be created.
        """
        directory = self._staged(partition) / branch
        directory.mkdir(parents=True, exist_ok=True)
        return directory / f"part-{name}.parquet"

    def files(self, partition: str) -> tuple[str, ...]:
        """Return the names that the staged files of a partition will have there: `scores/..`."""
        staged = self._staged(partition)
        paths = sorted(staged.glob("*/part-*.parquet"))
        return tuple(self._final(path.relative_to(staged).as_posix()) for path in paths)

    @abstractmethod
    def publish(self, partition: str, record: bytes) -> None:
        """Bring a staged partition to its place as a whole, in place of an earlier version.

        Args:
          partition: name of the partition.
          record: JSON object; its `outputs` are the names of `files`.
        """

    @abstractmethod
    def records(self) -> dict[str, bytes]:
        """Return the record of every complete partition, by name."""

    @abstractmethod
    def scores(
        self, partition: str, files: Sequence[str], side: str | None = None
    ) -> tuple[Place, ...]:
        """Return the files of scores of a complete partition.

        Args:
          partition: its name.
          files: the `outputs` of its record.
          side: the side whose files to return; None for all.
        """

    def exists(self, name: str) -> bool:
        """Return whether a file beside the partitions exists."""
        with self._one_line_errors():
            return self._store.exists(name)

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a file beside the partitions, or None."""
        with self._one_line_errors():
            return self._store.read(name) if self._store.exists(name) else None

    def write(self, name: str, data: bytes) -> None:
        """Write a file beside the partitions."""
        with self._one_line_errors():
            self._store.write(name, data)

    @abstractmethod
    def growing(self, name: str) -> AbstractContextManager[Path]:
        """Yield a path to write a file to that appears beside the partitions after the body."""

    def failure(self, error: OSError) -> FraudError:
        """Return a file system's error as one line."""
        return FraudError(
            f"--out {self.shown}: cannot be written ({reason_of(error)}); {fix_of(error)}",
            Code.OUTPUT_UNWRITABLE,
        )

    @property
    def _store(self) -> Store:
        return store_at(self.directory)

    @property
    @abstractmethod
    def _staged_at(self) -> Path:
        """The directory of growing files."""

    def _staged(self, partition: str) -> Path:
        return self._staged_at / f"partition-{partition}"

    def _final(self, name: str) -> str:
        """Return the final name of a staged file."""
        return name

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self.failure(error) from None


@dataclass(frozen=True)
class RescoreDirectory(RescoreOutputs):
    """The outputs in a directory that all workers share.

    A partition is written to the run's staging and moved to its place as a whole. So a killed run
    leaves complete partitions, and a staging that the next run removes.
    """

    directory: Path

    @property
    def outbox(self) -> Path:
        """A file beside the partitions."""
        return self.directory / "outbox.db"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Exclude other runs by a lock; the kernel releases it."""
        self._store.make()
        with self._one_line_errors():
            self._store_of(PARTITIONS).make()
            with self._store.locked():
                for staging in abandoned(self.directory):
                    staging.remove()
                if at_work(self.directory):
                    raise FraudError(
                        f"--out {self.shown}: a run is writing there; wait for its end, or "
                        "give another directory",
                        Code.OUTPUT_IN_USE,
                    )
                self._staging.claim()
                atomic.remove_unfinished(self.directory)
        try:
            yield
        finally:
            self._staging.remove()

    @contextmanager
    def attempt(self) -> Iterator[Self]:
        """Yield these outputs: all attempts share the staging of the run."""
        yield self

    def note_failure(self, partition: str, record: bytes) -> None:
        """Keep the record in the staging."""
        with self._one_line_errors():
            atomic.write_file(self._staging.path / f"{_FAILED}{partition}.json", record)

    def failures(self) -> dict[str, bytes]:
        """Return the records in the staging."""
        with self._one_line_errors():
            paths = self._staging.path.glob(f"{_FAILED}*.json")
            return {path.stem.removeprefix(_FAILED): path.read_bytes() for path in paths}

    def publish(self, partition: str, record: bytes) -> None:
        """Move a staged partition to its place; an earlier version disappears."""
        staged, final = self._staged(partition), self.directory / PARTITIONS / partition
        with self._one_line_errors():
            for branch in (SCORES, DEAD_LETTERS):
                (staged / branch).mkdir(parents=True, exist_ok=True)
            atomic.write_file(staged / RECORD, record)
            if final.exists():
                atomic.move(final, self._staging.path / f"replaced-{partition}")
            atomic.move(staged, final)
            atomic.sync_path(final.parent)

    def records(self) -> dict[str, bytes]:
        """Return the records of all directories."""
        store = self._store_of(PARTITIONS)
        with self._one_line_errors():
            names = store.list(f"*/{RECORD}")
            return {name.rpartition("/")[0]: store.read(name) for name in names}

    def scores(
        self, partition: str, files: Sequence[str], side: str | None = None
    ) -> tuple[Place, ...]:
        """Return what the directory holds: records of earlier versions name no files."""
        directory = self.directory / PARTITIONS / partition / SCORES
        paths = sorted(directory.glob(f"part-{'*' if side is None else side}.parquet"))
        return tuple(map(Place.at, paths))

    @contextmanager
    def growing(self, name: str) -> Iterator[Path]:
        """Yield the final path: writers of growing files make them appear at their end."""
        yield self.directory / name

    def _store_of(self, name: str) -> Directory:
        return Directory(self.directory / name)

    @property
    def _staging(self) -> Staging:
        return Staging(self.directory, self.run_id)

    @property
    def _staged_at(self) -> Path:
        return self._staging.path
