"""The outputs and the state of a stream under `--out`."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.monitoring.drift.counts import FILE, PART_FILES
from beam_fraud.storage import lock
from beam_fraud.storage.atomic import make_directory, remove_unfinished, remove_unfinished_of
from beam_fraud.storage.batch_outputs import (
    DEAD_LETTERS,
    MONITOR,
    SCORES,
    SHADOW,
    STREAM,
    UNDELIVERED,
    new_run_id,
)
from beam_fraud.storage.checkpoint import LocalCheckpoint
from beam_fraud.storage.parquet_writer import is_ours
from beam_fraud.storage.staging import UNFINISHED_PARTS
from beam_fraud.storage.store import Store, check_output, store_at
from beam_fraud.wording import reason_of

#: File of the identity of a stream whose state Beam's runner keeps.
_ABOUT = f"{STREAM}/about.json"
_SUMMARY = "summary.json"


@dataclass(frozen=True)
class StreamOutputs:
    """The outputs of a stream. Its Parquet files grow in number while it runs.

    The launcher calls `check`, `begin`, at the end `release`. At a URL the runner keeps the state,
    workers write the archive, and nothing is locked.
    """

    #: `--out`, absolute and local; at a URL, a temporary directory of the command.
    directory: Path
    #: `--out` without a trailing slash, if it is a URL.
    url: str = ""
    #: Whether a running job is replaced, whose archive at a URL continues.
    update: bool = False
    #: Option that names the directory, for messages.
    option: str = "--out"

    @property
    def own(self) -> Path:
        """Directory of private files: state, lock, status of workers."""
        return self.directory / STREAM

    @property
    def checkpoint(self) -> Path:
        """Path of the state of a stream on this machine."""
        return self.own / "state.db"

    @property
    def stop_file(self) -> Path:
        """File whose presence stops the readers."""
        return self.own / "stop"

    @property
    def live(self) -> Path:
        """Directory of status files of workers on this machine."""
        return self.own / "live"

    @property
    def monitor(self) -> Path:
        """Directory of what the monitor inside a stream counts."""
        return self.directory / MONITOR

    @property
    def outbox(self) -> Path | None:
        """Database of alerts and labels of a stream without a database sink, or None."""
        return None if self.url else self.directory / "outbox.db"

    @property
    def reserved(self) -> list[Path]:
        """Paths that only streams write directly under `--out` on this machine."""
        names = (SCORES, DEAD_LETTERS, SHADOW, MONITOR, UNDELIVERED, STREAM, _SUMMARY)
        return [self.directory / name for name in names if not self.url]

    def archive(self, name: str) -> Path | str:
        """Return the path or URL of the files of a branch, or of `monitor`."""
        return self._store.place(name) if self.url else self.directory / name

    @property
    def shown(self) -> str:
        """`--out`, for messages."""
        return str(self._store)

    @property
    def _named(self) -> str:
        """The option and its value, for messages."""
        return f"{self.option} {self.shown}"

    @property
    def _store(self) -> Store:
        return store_at(self.url or self.directory)

    def check(self, *, here: bool, taken_up: bool = False) -> None:
        """Check that the outputs are writable and hold only a stream's files.

        Args:
          here: whether the state is stored there.
          taken_up: whether Beam's runner restores the state of the stream that wrote there.

        Raises:
          UsageError: no file system supports the URL, or the state is stored on this machine.
          FraudError: it is not writable, is a model bundle, or holds results of `score`, foreign
            files, or files of a stream without its state, which would be replaced.
        """
        if self.url and here:
            raise UsageError(
                f"{self._named}: a stream on this machine keeps its state there; give a local "
                "directory, or another --runner",
                Code.OUTPUT_NAME,
            )
        check_output(self._store, self._named)
        for name in (SCORES, DEAD_LETTERS, SHADOW):
            if not self.url:
                self._check_branch(name, here=here, taken_up=taken_up)
            elif not (self.update or taken_up):
                self._check_unused(name)
        if self.url and not (self.update or taken_up):
            self._check_unused(MONITOR)
        elif not (self.url or taken_up):
            self._check_counts(here=here)

    def _check_counts(self, *, here: bool) -> None:
        """Refuse counts that this stream would replace, or that would be added to its own."""
        parts = any(self.monitor.glob(PART_FILES))
        if parts or (not here and (self.monitor / FILE).exists()):
            raise FraudError(
                f"{self._named}: {MONITOR} has counts of another stream; give another directory",
                Code.OUTPUT_OCCUPIED,
            )

    def _check_unused(self, name: str) -> None:
        try:
            used = self._store.holds(name)
        except OSError as error:
            raise FraudError(
                f"{self._named}: cannot be listed ({reason_of(error)})",
                Code.OUTPUT_UNWRITABLE,
            ) from None
        if used:
            raise FraudError(
                f"{self._named}: {name} has files of another run; give another place",
                Code.OUTPUT_OCCUPIED,
            )

    def _check_branch(self, name: str, *, here: bool, taken_up: bool) -> None:
        directory = self.directory / name
        if directory.exists() and not directory.is_dir():
            raise FraudError(
                f"{self._named}: {directory} is a file; move it away",
                Code.OUTPUT_OCCUPIED,
            )
        parts = sorted(directory.glob("*")) if directory.exists() else []
        if parts and not self.own.is_dir():
            raise FraudError(
                f"{self._named}: {name} has files that no stream wrote; give another directory",
                Code.OUTPUT_OCCUPIED,
            )
        if parts and not taken_up and not (here and self.checkpoint.exists()):
            with_it = "" if here else "give --savepoint_path to go on with it, or "
            raise FraudError(
                f"{self._named}: {name} has files of a stream whose state is missing, so "
                f"no stream can resume; {with_it}give another directory",
                Code.OUTPUT_OCCUPIED,
            )
        for part in parts:
            if not part.name.startswith(".") and not is_ours(part):
                raise FraudError(
                    f"{self._named}: {part} was not written by a stream; move it away",
                    Code.OUTPUT_OCCUPIED,
                )

    def begin(self) -> None:
        """Create and lock the directories, so that no second stream writes there.

        Raises:
          FraudError: another process runs a stream there, or the file system reports an error.
        """
        branches = () if self.url else (SCORES, DEAD_LETTERS)
        for directory in (self.own, *(self.directory / name for name in branches)):
            make_directory(directory)
        try:
            held = lock.lock(self.own / "lock")
            try:
                self.stop_file.unlink(missing_ok=True)
                # Leftovers of killed streams and of earlier versions.
                remove_unfinished(self.own)
                remove_unfinished_of(self.directory / _SUMMARY)
            except OSError:
                held.release()
                raise
            lock.hold(self.directory, held)
        except BlockingIOError:
            raise FraudError(
                f"{self._named}: a stream is running there; stop it, or give another directory",
                Code.OUTPUT_IN_USE,
            ) from None
        except OSError as error:
            raise FraudError(
                f"{self._named}: cannot be written ({reason_of(error)})",
                Code.OUTPUT_UNWRITABLE,
            ) from None

    def stop(self) -> None:
        """Signal the readers to stop."""
        self.stop_file.touch()

    def read_about(self) -> bytes | None:
        """Read the identity of `write_about`.

        Raises:
          FraudError: the file system reports an error.
        """
        try:
            return self._store.read(_ABOUT)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FraudError(
                f"{self._place(_ABOUT)}: cannot be read ({reason_of(error)})", Code.STATE_UNREADABLE
            ) from None

    def write_about(self, about: bytes) -> None:
        """Write the identity of a stream whose state Beam's runner keeps, atomically.

        Raises:
          FraudError: the file system reports an error.
        """
        self._write(_ABOUT, about)

    def write_summary(self, summary: Mapping[str, object]) -> None:
        """Write `summary.json` atomically.

        Raises:
          FraudError: the file system reports an error.
        """
        self._write(_SUMMARY, msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")

    def _write(self, name: str, data: bytes) -> None:
        try:
            self._store.write(name, data)
        except OSError as error:
            why = reason_of(error)
            raise FraudError(
                f"{self._place(name)}: cannot be written ({why})", Code.OUTPUT_UNWRITABLE
            ) from None

    def _place(self, name: str) -> str:
        return self._named if self.url else self._store.place(name)

    def release(self) -> None:
        """Release the directory for another stream."""
        lock.release(self.directory)


@dataclass(frozen=True)
class ServerOutputs(StreamOutputs):
    """The state and the archives of a server, under `--state`."""

    @property
    def checkpoint(self) -> Path:
        """Path of the state, which no stream can continue."""
        return self.own / "server.db"

    @property
    def shadow_checkpoint(self) -> Path:
        """Path of what is done in shadow, and of rows in no finished file there."""
        return self.own / "shadow.db"


def object_stream_outputs(url: str, *, update: bool) -> StreamOutputs:
    """Return the outputs of a stream at a URL, with a temporary directory.

    Args:
      url: `--out`.
      update: whether a running job is replaced.
    """
    directory = Path(tempfile.gettempdir()) / f"beam-fraud-{new_run_id()}"
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return StreamOutputs(directory, url.rstrip("/"), update)


#: Pattern of the names of a stream's parts (`state.archive`).
_PARTS = "part-[0-9][0-9][0-9]-*.parquet"


def claim_archives(
    directories: Sequence[Path], out: Path, checkpoint: LocalCheckpoint | None
) -> None:
    """Check that no directory holds parts of another stream, or of one without state.

    A stream removes parts that its state does not record, as killed runs leave them: foreign parts
    would be lost.

    Args:
      directories: absolute directories of the stream's parts.
      out: `--out`, which may move with its contents.
      checkpoint: record of the directories; None if Beam's runner keeps the state, where a stream
        always starts new.

    Raises:
      FraudError: a directory holds parts, and the state does not record it.
    """
    for directory in directories:
        inside = directory.is_relative_to(out)
        name = f"parts in {directory.relative_to(out) if inside else directory}"
        if checkpoint is not None and checkpoint.knows(name):
            continue
        if any(any(directory.glob(parts)) for parts in (_PARTS, UNFINISHED_PARTS)):
            raise FraudError(
                f"{directory}: has files of another stream, or of one whose state is lost, which "
                "would be replaced; give another directory",
                Code.OUTPUT_OCCUPIED,
            )
        if checkpoint is not None:
            checkpoint.claim({name: "of this stream"})
