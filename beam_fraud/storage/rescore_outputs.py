"""The outputs of `rescore` under `--out`: a directory per partition, complete or absent."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from beam_fraud.errors import Code, FraudError, fix_of
from beam_fraud.platform.wording import reason_of
from beam_fraud.storage import atomic
from beam_fraud.storage.batch_outputs import DEAD_LETTERS, SCORES, STREAM
from beam_fraud.storage.staging import Staging, abandoned, at_work
from beam_fraud.storage.store import Directory

PARTITIONS = "partitions"
MANIFEST, SUMMARY = "manifest.json", "summary.json"
#: In each partition: what it was made of.
RECORD = "partition.json"
#: Prefix of records of failures in the staging.
_FAILED = "failed-"


@dataclass(frozen=True)
class RescoreOutputs:
    """`DIR/partitions/<name>/{scores,dead_letters,partition.json}` and the files beside.

    A partition is written to the run's staging and moved to its place as a whole. So a killed run
    leaves complete partitions, and a staging that the next run removes. Every method raises
    FraudError, one line, if the file system fails.
    """

    #: `--out`, absolute.
    directory: Path
    #: Run id of `new_run_id`.
    run_id: str

    def check(self) -> None:
        """Check that the outputs are writable, and that no other command's are there.

        Raises:
          FraudError: it is a file, not writable, or has files of another command.
        """
        self._store.check("--out")
        for name in (SCORES, STREAM):
            if self._store.holds(name):
                raise FraudError(
                    f"--out {self.directory}: has files of another command ({name}); give another "
                    "directory",
                    Code.OUTPUT_OCCUPIED,
                )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Exclude other runs while the body runs; first remove what killed runs left.

        Raises:
          FraudError: another run uses the directory.
        """
        self._store.make()
        with self._one_line_errors():
            self._store_of(PARTITIONS).make()
            with self._store.locked():
                for staging in abandoned(self.directory):
                    staging.remove()
                if at_work(self.directory):
                    raise FraudError(
                        f"--out {self.directory}: a run is writing there; wait for its end, or "
                        "give another directory",
                        Code.OUTPUT_IN_USE,
                    )
                self._staging.claim()
                atomic.remove_unfinished(self.directory)
        try:
            yield
        finally:
            self._staging.remove()

    def scratch(self) -> Path:
        """Create and return a new directory of the run, which disappears at its end.

        Raises:
          OSError: it cannot be created.
        """
        return Path(tempfile.mkdtemp(prefix="scratch-", dir=self._staging.path))

    def note_failure(self, partition: str, record: bytes) -> None:
        """Keep the record of a partition that a worker could not complete, for `failures`."""
        with self._one_line_errors():
            atomic.write_file(self._staging.path / f"{_FAILED}{partition}.json", record)

    def failures(self) -> dict[str, bytes]:
        """Return the records of `note_failure` in this run, by name."""
        with self._one_line_errors():
            paths = self._staging.path.glob(f"{_FAILED}*.json")
            return {path.stem.removeprefix(_FAILED): path.read_bytes() for path in paths}

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
        """Return the record of every complete partition, by name."""
        store = self._store_of(PARTITIONS)
        with self._one_line_errors():
            names = store.list(f"*/{RECORD}")
            return {name.rpartition("/")[0]: store.read(name) for name in names}

    def scores(self, partition: str) -> list[Path]:
        """Return the files of scores of a complete partition."""
        return sorted((self.directory / PARTITIONS / partition / SCORES).glob("part-*.parquet"))

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a file beside the partitions, or None."""
        with self._one_line_errors():
            return self._store.read(name) if self._store.exists(name) else None

    def write(self, name: str, data: bytes) -> None:
        """Write a file beside the partitions."""
        with self._one_line_errors():
            self._store.write(name, data)

    def failure(self, error: OSError) -> FraudError:
        """Return a file system's error as one line."""
        return FraudError(
            f"--out {self.directory}: cannot be written ({reason_of(error)}); {fix_of(error)}",
            Code.OUTPUT_UNWRITABLE,
        )

    @property
    def _store(self) -> Directory:
        return Directory(self.directory)

    def _store_of(self, name: str) -> Directory:
        return Directory(self.directory / name)

    @property
    def _staging(self) -> Staging:
        return Staging(self.directory, self.run_id)

    def _staged(self, partition: str) -> Path:
        return self._staging.path / f"partition-{partition}"

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self.failure(error) from None
