"""The outputs of a run under `--out`: complete after a success, unchanged after a failure."""

from __future__ import annotations

import io
import logging
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import msgspec
import pyarrow as pa

from beam_fraud.errors import Code, FraudError, UsageError, fix_of
from beam_fraud.schema.stages import DEAD_LETTER, SCORED
from beam_fraud.storage import lock
from beam_fraud.storage.atomic import move, remove_unfinished
from beam_fraud.storage.lease import Lease
from beam_fraud.storage.parquet_writer import ParquetBlockWriter
from beam_fraud.storage.staging import Staging, abandoned, at_work, foreign_entry
from beam_fraud.storage.store import ObjectStore, Store, check_output, store_at
from beam_fraud.storage.urls import Place
from beam_fraud.wording import reason_of

_LOG = logging.getLogger(__name__)
SCORES = "scores"
FEATURES = "features"
DEAD_LETTERS = "dead_letters"
#: Rows of challengers, which decide nothing.
SHADOW = "shadow"
#: Directory of a stream's state under `--out`.
STREAM = "stream"
#: Directory of what the monitor inside a stream or server counts.
MONITOR = "monitor"
#: Directory under `--out` of spilled flagged rows; only `dead-letters replay` removes them.
UNDELIVERED = "undelivered"
#: Every directory of Parquet files that a command writes under `--out`.
_BRANCHES = (SCORES, FEATURES, DEAD_LETTERS, SHADOW)
#: Directories of `score`, with the schema of their files.
SCORE_BRANCHES = {SCORES: SCORED, DEAD_LETTERS: DEAD_LETTER}
#: In the staging of a run of `score` without challengers, which removes those of an earlier run.
_WITHOUT_SHADOW = "without-shadow"
_SUMMARY = "summary.json"
_PARTS = "part-*.parquet"


def new_run_id() -> str:
    """Return a new run id: start in UTC and six random hex digits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"


def local_directory(out: Place) -> Path:
    """Return the path of `--out`.

    Raises:
      UsageError: it is a URL.
    """
    if out.local is None:
        raise UsageError(f"--out {out.shown}: must be a local directory", Code.OUTPUT_NAME)
    return out.local


@dataclass(frozen=True)
class RunOutputs:
    """The outputs of a run; sent to the workers, which write to `part`.

    The launcher calls `check`, `begin`, then `publish` and `write_summary`, or `abandon`. Every
    method raises FraudError, one line, if the file system fails.

    In a directory the launcher publishes by one rename, and a lock excludes other runs. At a URL
    neither is possible: the graph publishes as its last step (`publish_parts`), and a `Lease` of
    the launcher excludes other runs. In both, an existing `summary.json` always describes the files
    beside it.
    """

    #: `--out`, absolute, or a URL without a trailing slash.
    directory: Path | str
    #: Run id of `new_run_id`.
    run_id: str
    #: Directories of the run's Parquet files, with the schema of their files.
    branches: Mapping[str, pa.Schema] = field(default_factory=lambda: SCORE_BRANCHES)

    @property
    def at_url(self) -> bool:
        """Return whether workers write to a URL, and the graph publishes."""
        return not isinstance(self.directory, Path)

    @property
    def staging(self) -> Path:
        """Staging directory of a run's files: `DIR/.incoming-<run>`."""
        return self._local / self._incoming

    @property
    def shown(self) -> str:
        """`--out`, for messages."""
        return str(self.directory)

    @property
    def scratch(self) -> Path:
        """Temporary directory of a run on this machine, beside its results."""
        if self.at_url:
            return Path(tempfile.gettempdir()) / f"beam-fraud-{self.run_id}"
        return self.staging

    @property
    def outbox(self) -> Path | None:
        """Database of alerts of a run without a database sink; None if impossible."""
        return None if self.at_url else self._local / "outbox.db"

    @property
    def reserved(self) -> list[Path]:
        """Paths that only runs write directly under `--out` on this machine."""
        names = () if self.at_url else (*_BRANCHES, UNDELIVERED, _SUMMARY)
        return [self._local / name for name in names]

    @property
    def _replaced(self) -> tuple[str, ...]:
        """Directories whose earlier files the run replaces or removes."""
        stale = (SHADOW,) if SCORES in self.branches and SHADOW not in self.branches else ()
        return (*self.branches, *stale)

    @property
    def _store(self) -> Store:
        return store_at(self.directory)

    @property
    def _local(self) -> Path:
        assert isinstance(self.directory, Path), "a URL has no paths"
        return self.directory

    @property
    def _incoming(self) -> str:
        # No reader opens hidden names.
        return f".incoming-{self.run_id}"

    @property
    def _leased(self) -> str:
        """Key of the lease on a URL."""
        return self._store.place(self._incoming)

    @property
    def _staging(self) -> Staging:
        return Staging(self._local, self.run_id)

    @property
    def _prefix(self) -> str:
        return f"part-{self.run_id}-"

    def part(self, branch: str) -> Path | str:
        """Return a path or URL, a new one at every call, for a Parquet file of `branch`."""
        name = f"{self._incoming}/{branch}/{self._prefix}{uuid.uuid4().hex[:12]}.parquet"
        return self._store.place(name) if self.at_url else self._local / name

    def parts(self, branch: str) -> list[str]:
        """Return the run's files of `branch`, staged or published."""
        published = self.at_url or not self.staging.exists()
        within = branch if published else f"{self._incoming}/{branch}"
        names = self._list(f"{within}/{self._prefix}*.parquet")
        return [self._store.place(name) for name in names]

    def place(self, branch: str) -> str:
        """Return the final directory of `branch`."""
        return self._store.place(branch)

    def check(self) -> None:
        """Check that the outputs are writable and that everything to replace is ours.

        Raises:
          UsageError: no file system supports the URL.
          FraudError: it is a file, not writable, a model bundle, or a branch holds foreign files.
        """
        check_output(self._store, f"--out {self.shown}")
        with self._one_line_errors("listed"):
            of_stream = self._store.holds(STREAM)
        if of_stream:
            raise FraudError(
                f"--out {self.shown}: has files of a stream; give another directory",
                Code.OUTPUT_OCCUPIED,
            )
        for branch in self._replaced:
            foreign = self._foreign(branch)
            if foreign is not None:
                raise FraudError(
                    f"--out {self.shown}: {foreign} was not written by a run and would be "
                    "replaced; move it away or give another directory",
                    Code.OUTPUT_OCCUPIED,
                )
        if not self.at_url and self._store.holds(_SUMMARY):
            raise FraudError(
                f"--out {self.shown}: {_SUMMARY} is a directory; move it away", Code.OUTPUT_OCCUPIED
            )

    def begin(self, *, attended: bool = True) -> None:
        """Create the staging, after finishing or removing that of killed runs.

        Args:
          attended: whether the launcher waits for the run: only then a lease keeps others from a
            URL.

        Raises:
          FraudError: another run uses the directory, or the file system reports an error.
        """
        self.check()
        self._store.make()
        with self._one_line_errors():
            if self.at_url:
                self._begin_at_url(attended)
                return
            with self._store.locked():
                self._finish_abandoned()
                self._refuse_company(", or give another directory")
                self._staging.claim()
            try:
                for branch in self.branches:
                    (self.staging / branch).mkdir()
            except OSError:
                self._staging.remove()
                raise

    def publish(self) -> None:
        """Replace an earlier run's files by this run's, and remove the staging.

        A branch without rows gets an empty file. The earlier run's summary is removed first. At a
        URL the graph has published.
        """
        if self.at_url:
            shutil.rmtree(self.scratch, ignore_errors=True)
            lock.release(self._leased)
            return
        self.check()
        try:
            for branch, schema in self.branches.items():
                if not any((self.staging / branch).glob(_PARTS)):
                    ParquetBlockWriter(self._local / self.part(branch), schema).close()
            if SHADOW in self._replaced and SHADOW not in self.branches:
                (self.staging / _WITHOUT_SHADOW).touch()
            self._staging.mark_ready()
            with self._store.locked():
                self._swap_in(self._staging)
        except OSError as error:
            self._staging.release()
            raise self.failure(error) from None
        self._staging.remove()

    def publish_parts(self, parts: Mapping[str, Sequence[str]]) -> None:
        """Publish a run's files at a URL, from one worker at the end.

        May repeat, even concurrently. A branch without rows gets an empty file.

        Args:
          parts: names of the parts by branch; other parts belong to repeated bundles.

        Raises:
          FraudError: the file system reports an error.
        """
        store = self._store
        with self._one_line_errors():
            store.remove(store.list(_SUMMARY))
            final = set()
            for branch, schema in self.branches.items():
                for name in sorted(parts.get(branch, ())) or [self._empty(branch, schema)]:
                    store.move(f"{self._incoming}/{branch}/{name}", f"{branch}/{name}")
                    final.add(f"{branch}/{name}")
            # Only once all exist: a failure leaves too much rather than too little.
            for branch in self._replaced:
                store.remove(set(store.list(f"{branch}/{_PARTS}")) - final)
            store.remove(store.list(f"{self._incoming}/**"))

    def abandon(self) -> None:
        """Remove the staging of a failed run unless its publication has begun."""
        if not self.at_url:
            if not self._staging.ready:
                self._staging.remove()
            return
        shutil.rmtree(self.scratch, ignore_errors=True)
        lock.release(self._leased)
        try:
            self._store.remove(self._store.list(f"{self._incoming}/**"))
        except OSError as error:
            place = self._store.place(self._incoming)
            _LOG.warning("%s: cannot be removed (%s)", place, reason_of(error))

    def write_summary(self, summary: Mapping[str, object]) -> bool:
        """Write `summary.json`, unless the files beside it are no longer this run's.

        Returns:
          Whether it was written. If not, another run has published meanwhile.
        """
        text = msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n"
        with self._one_line_errors(), self._store.locked():
            if not self._published():
                return False
            self._store.write(_SUMMARY, text)
        return True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Exclude runs from the directory while the body runs.

        Killed runs are finished first.

        Raises:
          FraudError: a run uses the directory.
        """
        with self._one_line_errors(), self._store.locked():
            self._finish_abandoned()
            self._refuse_company()
            yield

    def failure(self, error: OSError) -> FraudError:
        """Return a file system's error as one line; for workers that write to `part`."""
        fix = "" if self.at_url else f"; {fix_of(error)}"
        return FraudError(
            f"--out {self.shown}: cannot be written ({reason_of(error)}){fix}",
            Code.OUTPUT_UNWRITABLE,
        )

    @contextmanager
    def _one_line_errors(self, done: str = "written") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if done == "written":
                raise self.failure(error) from None
            raise FraudError(
                f"--out {self.shown}: cannot be {done} ({reason_of(error)})", Code.OUTPUT_UNWRITABLE
            ) from None

    def _begin_at_url(self, attended: bool) -> None:
        store = ObjectStore(self.shown)
        if not attended:
            store.write(f"{self._incoming}/started", b"")
            return
        lease = Lease(store, self._incoming, f"--out {self.shown}")
        lease.acquire()
        lock.hold(self._leased, lease)

    def _list(self, pattern: str) -> list[str]:
        with self._one_line_errors("listed"):
            return self._store.list(pattern)

    def _foreign(self, branch: str) -> str | None:
        """Return the path of a foreign entry in a branch, or None."""
        if not self.at_url:
            foreign = foreign_entry(self._local / branch)
            return None if foreign is None else str(foreign)
        for name in self._list(f"{branch}/**"):
            path = PurePosixPath(name)
            if str(path.parent) != branch or not path.match(_PARTS):
                return self._store.place(name)
        return None

    def _empty(self, branch: str, schema: pa.Schema) -> str:
        # A fixed name, so that a repetition creates no second one.
        name = f"{self._prefix}empty.parquet"
        held = io.BytesIO()
        ParquetBlockWriter(held, schema).close()
        self._store.write(f"{self._incoming}/{branch}/{name}", held.getvalue())
        return name

    def _refuse_company(self, otherwise: str = "") -> None:
        if at_work(self._local):
            raise FraudError(
                f"--out {self.shown}: a run is writing there; wait for its end{otherwise}",
                Code.OUTPUT_IN_USE,
            )

    def _published(self) -> bool:
        """Return whether the files in every branch are this run's; each has one at least."""
        for branch in self.branches:
            parts = self._store.list(f"{branch}/{_PARTS}")
            if not parts or not all(p.startswith(f"{branch}/{self._prefix}") for p in parts):
                return False
        return True

    def _finish_abandoned(self) -> None:
        for staging in abandoned(self._local):
            if staging.ready:
                self._swap_in(staging)
            staging.remove()
        # Leftovers of killed runs and of earlier versions.
        self._store.remove(self._store.list(f".{_SUMMARY}[-.]*"))

    def _swap_in(self, staging: Staging) -> None:
        # Each step checks the current state, so that it can resume from any point.
        self._store.remove([_SUMMARY])
        # All branches: the run to finish may be of another command.
        for branch in _BRANCHES:
            new, final = staging.path / branch, self._local / branch
            if new.exists():
                remove_unfinished(new)
                if final.exists():
                    move(final, staging.path / f"replaced-{branch}")
                move(new, final)
        stale = self._local / SHADOW
        if (staging.path / _WITHOUT_SHADOW).exists() and stale.exists():
            move(stale, staging.path / f"replaced-{SHADOW}")


def batch_outputs(out: Place, branches: Mapping[str, pa.Schema] = SCORE_BRANCHES) -> RunOutputs:
    """Return the outputs of a new run under `--out`.

    Args:
      out: a directory.
      branches: directories of Parquet files, with the schema of their files.
    """
    return RunOutputs(out.local or out.name.rstrip("/"), new_run_id(), branches)
