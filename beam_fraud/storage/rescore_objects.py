"""The outputs of `rescore` at a URL: the record of a partition names its valid files."""

from __future__ import annotations

import logging
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Self

import msgspec

from beam_fraud.errors import Code, FraudError, fix_of
from beam_fraud.storage import objects
from beam_fraud.storage.batch_outputs import DEAD_LETTERS, SCORES
from beam_fraud.storage.lease import Lease, holds_lease, leases
from beam_fraud.storage.rescore_outputs import PARTITIONS, RECORD, RescoreOutputs
from beam_fraud.storage.store import ObjectStore
from beam_fraud.storage.temporary import temporary_directory
from beam_fraud.storage.urls import Place
from beam_fraud.wording import reason_of

_LOG = logging.getLogger(__name__)
#: Prefix of the folder of a run's own objects: its lease, and records of failures.
_RUN = ".rescoring-"
_FAILED = "failed-"
#: Objects that are read side by side.
_READERS = 8
_PARTS = tuple(f"{PARTITIONS}/*/{branch}/part-*.parquet" for branch in (SCORES, DEAD_LETTERS))


class _Outputs(msgspec.Struct):
    """The part of a record that names the files of its partition."""

    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class RescoreObjects(RescoreOutputs):
    """The outputs at a URL of Beam's file systems, whose objects appear one by one.

    The files of an attempt grow in a temporary directory and are uploaded under names that no
    other attempt has. The record comes last: it alone makes them valid, in place of those that the
    record before it named. What no record names is removed at the start and at the end of a run.
    A store has no locks: a `Lease` excludes other runs.
    """

    directory: str
    #: The temporary directory of an attempt, and what its names end in.
    own: Path | None = None
    ending: str = ""

    @property
    def outbox(self) -> None:
        """A URL can hold no database."""
        return

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Exclude other runs by a lease, which a killed run loses after two minutes."""
        store = self._objects
        lease = Lease(store, self._run, f"--out {self.shown}")
        with self._one_line_errors():
            lease.acquire()
        try:
            with self._one_line_errors():
                self._remove_dead_runs()
                self._sweep()
            yield
        finally:
            try:
                # No worker publishes from here on, so that the records stay.
                if lease.end():
                    self._sweep()
                store.remove(store.list(f"{self._run}/{_FAILED}*"))
            except (OSError, FraudError) as error:
                _LOG.warning("--out %s: cannot be cleared up (%s)", self.shown, reason_of(error))
            finally:
                lease.release()

    @contextmanager
    def attempt(self) -> Iterator[Self]:
        """Yield outputs whose files have names of their own."""
        with ExitStack() as stack:
            with self._one_line_errors():
                own = stack.enter_context(temporary_directory())
            yield replace(self, own=own, ending=f"-{self.run_id}-{uuid.uuid4().hex[:8]}")

    def note_failure(self, partition: str, record: bytes) -> None:
        """Write the record beside the lease."""
        with self._one_line_errors():
            self._objects.write(f"{self._run}/{_FAILED}{partition}.json", record)

    def failures(self) -> dict[str, bytes]:
        """Return the records beside the lease."""
        with self._one_line_errors():
            names = self._objects.list(f"{self._run}/{_FAILED}*.json")
            return {PurePosixPath(n).stem.removeprefix(_FAILED): self._read(n) for n in names}

    def publish(self, partition: str, record: bytes) -> None:
        """Upload the files, then the record.

        Raises:
          FraudError: another run has taken the place over (`OUTPUT_IN_USE`), or it fails.
        """
        staged, store = self._staged(partition), self._objects
        with self._one_line_errors():
            for path in sorted(staged.glob("*/part-*.parquet")):
                name = self._final(path.relative_to(staged).as_posix())
                objects.upload(path, store.place(f"{PARTITIONS}/{partition}/{name}"))
        self._refuse_without_lease()
        with self._one_line_errors():
            store.write(f"{PARTITIONS}/{partition}/{RECORD}", record)
        shutil.rmtree(staged, ignore_errors=True)

    def records(self) -> dict[str, bytes]:
        """Return the records whose files are all there."""
        with self._one_line_errors():
            return {name: record for name, (record, _) in self._complete().items()}

    def scores(
        self, partition: str, files: Sequence[str], side: str | None = None
    ) -> tuple[Place, ...]:
        """Return the files that the record names."""
        paths = [PurePosixPath(name) for name in files]
        return tuple(
            Place(self.place(f"{PARTITIONS}/{partition}/{path}"), None)
            for path in paths
            if path.parent.name == SCORES and side in (None, path.stem.split("-")[1])
        )

    def write(self, name: str, data: bytes) -> None:
        """Write a file beside the partitions, unless another run has taken the place over."""
        self._refuse_without_lease()
        super().write(name, data)

    @contextmanager
    def growing(self, name: str) -> Iterator[Path]:
        """Yield a path in a temporary directory, and upload the file."""
        with temporary_directory() as directory:
            path = directory / name
            yield path
            self._refuse_without_lease()
            if path.exists():
                with self._one_line_errors():
                    objects.upload(path, self.place(name))

    def failure(self, error: OSError) -> FraudError:
        """Return an error of the store, or of this disk, as one line."""
        if error.errno is None:
            return FraudError(
                f"--out {self.shown}: cannot be written ({reason_of(error)})",
                Code.OUTPUT_UNWRITABLE,
            )
        return FraudError(
            f"--out {self.shown}: files for it cannot be written to {tempfile.gettempdir()} "
            f"({reason_of(error)}); {fix_of(error)}",
            Code.OUTPUT_UNWRITABLE,
        )

    @property
    def _objects(self) -> ObjectStore:
        return ObjectStore(self.directory)

    @property
    def _run(self) -> str:
        return f"{_RUN}{self.run_id}"

    @property
    def _staged_at(self) -> Path:
        assert self.own is not None, "files grow within an attempt"
        return self.own

    def _final(self, name: str) -> str:
        path = PurePosixPath(name)
        return str(path.with_name(f"{path.stem}{self.ending}{path.suffix}"))

    def _read(self, name: str) -> bytes:
        return objects.read(self._objects.place(name))

    def _complete(self) -> dict[str, tuple[bytes, tuple[str, ...]]]:
        """Return the record of each complete partition, with the names that it says."""
        there = set(self._objects.list(f"{PARTITIONS}/**"))
        found = sorted(name for name in there if fnmatchcase(name, f"{PARTITIONS}/*/{RECORD}"))
        with ThreadPoolExecutor(_READERS) as pool:
            records = dict(zip(found, pool.map(self._read, found), strict=True))
        complete = {}
        for name, record in records.items():
            folder = name.removesuffix(RECORD)
            try:
                said = msgspec.json.decode(record, type=_Outputs).outputs
            except msgspec.MsgspecError:
                continue
            files = tuple(f"{folder}{one}" for one in said)
            if files and there.issuperset(files):
                complete[PurePosixPath(folder).name] = record, files
        return complete

    def _sweep(self) -> None:
        """Remove the files that no record names."""
        store = self._objects
        valid = {file for _, files in self._complete().values() for file in files}
        parts = {name for pattern in _PARTS for name in store.list(pattern)}
        store.remove(sorted(parts - valid))

    def _remove_dead_runs(self) -> None:
        """Remove what killed runs left beside the partitions; their leases first."""
        store = self._objects
        alive = {lease.folder for lease in leases(store, f"{_RUN}*") if lease.alive()}
        names = store.list(f"{_RUN}*/**")
        dead = [name for name in names if name.partition("/")[0] not in {*alive, self._run}]
        store.remove(sorted(dead, key=lambda name: PurePosixPath(name).name.startswith(_FAILED)))

    def _refuse_without_lease(self) -> None:
        """Check that the run may write.

        Raises:
          FraudError: another run has taken the place over.
        """
        with self._one_line_errors():
            held = holds_lease(self._objects, self._run)
        if not held:
            raise FraudError(
                f"--out {self.shown}: another run has taken it over from run {self.run_id}, or "
                "the run has ended; see that one run writes there, then repeat the call",
                Code.OUTPUT_IN_USE,
            )
