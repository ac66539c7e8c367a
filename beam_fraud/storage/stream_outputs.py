"""What a stream leaves under `--out DIR`, and what it keeps there to go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from beam_fraud.errors import FraudError
from beam_fraud.storage import lock
from beam_fraud.storage.atomic import hidden_beside, remove_unfinished, whole_file, write_file
from beam_fraud.storage.batch_outputs import DEAD_LETTERS, SCORES, STREAM, UNDELIVERED
from beam_fraud.storage.checkpoint import LocalCheckpoint
from beam_fraud.storage.folder import check_writable, make_directory, reason_of
from beam_fraud.storage.parquet_writer import is_ours
from beam_fraud.storage.staging import UNFINISHED_PARTS

#: Holds what a stream is whose state Beam's runner keeps.
_ABOUT = "about.json"


@dataclass(frozen=True)
class StreamOutputs:
    """The directory of a stream. Its Parquet files grow in number while it runs.

    For the launcher: `check`, `begin`, in the end `release`.
    """

    #: `--out`, absolute and local.
    directory: Path

    @property
    def own(self) -> Path:
        """What is not for users: state, the lock, what workers say of their progress."""
        return self.directory / STREAM

    @property
    def checkpoint(self) -> Path:
        """Where a stream on this machine keeps its state."""
        return self.own / "state.db"

    @property
    def stop_file(self) -> Path:
        """A file that tells the readers to come to an end once it is there."""
        return self.own / "stop"

    @property
    def live(self) -> Path:
        """Where workers on this machine tell how they are doing."""
        return self.own / "live"

    @property
    def outbox(self) -> Path | None:
        """The database of alerts and labels of a stream without a database sink, if it has one."""
        return self.directory / "outbox.db"

    @property
    def summary(self) -> Path:
        """What the last run of the stream did."""
        return self.directory / "summary.json"

    @property
    def reserved(self) -> list[Path]:
        """What streams write straight under `--out`; nothing else may."""
        branches = [self.branch(name) for name in (SCORES, DEAD_LETTERS, UNDELIVERED)]
        return [*branches, self.own, self.summary]

    def branch(self, name: str) -> Path:
        """The directory of the Parquet files of `scores` or `dead_letters`."""
        return self.directory / name

    def archive(self, name: str) -> Path | str:
        """Where workers write the Parquet files of `scores` or `dead_letters`: a path or URL."""
        return self.branch(name)

    @property
    def shown(self) -> str:
        """`--out`, for messages."""
        return str(self.directory)

    def check(self, *, here: bool, taken_up: bool = False) -> None:
        """See that the directory can be written to and holds nothing that is not a stream's.

        Args:
          here: whether the stream keeps its state there.
          taken_up: whether Beam's runner takes up the state of the stream that wrote there.

        Raises:
          FraudError: it cannot, it holds the results of `score`, files of someone else, or those of
            a stream whose state is not there: that would replace them.
        """
        check_writable(self.directory)
        for name in (SCORES, DEAD_LETTERS):
            directory = self.branch(name)
            if directory.exists() and not directory.is_dir():
                raise FraudError(f"--out {self.directory}: {directory} is a file; move it away")
            parts = sorted(directory.glob("*")) if directory.exists() else []
            if parts and not self.own.is_dir():
                raise FraudError(
                    f"--out {self.directory}: {name} holds what no stream wrote; give another "
                    "directory"
                )
            if parts and not taken_up and not (here and self.checkpoint.exists()):
                with_it = "" if here else "give --savepoint_path to go on with it, or "
                raise FraudError(
                    f"--out {self.directory}: {name} holds what a stream wrote whose state is not "
                    f"there, so that none can go on; {with_it}give another directory"
                )
            for part in parts:
                if not part.name.startswith(".") and not is_ours(part):
                    raise FraudError(
                        f"--out {self.directory}: {part} was not written by a stream; move it away"
                    )

    def begin(self) -> None:
        """Make the directories and hold them, so that no second stream writes there.

        Raises:
          FraudError: another process runs a stream there, or the file system refuses.
        """
        for directory in (self.own, self.branch(SCORES), self.branch(DEAD_LETTERS)):
            make_directory(directory)
        try:
            lock.hold(self.directory, lock.lock(self.own / "lock"))
            self.stop_file.unlink(missing_ok=True)
            remove_unfinished(self.own)
        except BlockingIOError:
            raise FraudError(
                f"--out {self.directory}: a stream is running there; stop it, or give another "
                "directory"
            ) from None
        except OSError as error:
            raise FraudError(
                f"--out {self.directory}: cannot be written ({reason_of(error)})"
            ) from None

    def stop(self) -> None:
        """Tell the readers to come to an end."""
        self.stop_file.touch()

    def read_about(self) -> bytes | None:
        """What `write_about` has written there.

        Raises:
          FraudError: the file system refuses.
        """
        try:
            return (self.own / _ABOUT).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FraudError(f"{self.own / _ABOUT}: cannot be read ({reason_of(error)})") from None

    def write_about(self, about: bytes) -> None:
        """Write what the stream is whose state Beam's runner keeps, whole or not at all.

        Raises:
          FraudError: the file system refuses.
        """
        file = self.own / _ABOUT
        try:
            write_file(file, about)
        except OSError as error:
            raise FraudError(f"{file}: cannot be written ({reason_of(error)})") from None

    def write_summary(self, summary: Mapping[str, object]) -> None:
        """Write `summary.json`, whole or not at all.

        Raises:
          FraudError: the file system refuses.
        """
        text = msgspec.json.format(msgspec.json.encode(summary), indent=2)
        try:
            with whole_file(self.summary, hidden=hidden_beside(self.own / "summary")) as file:
                file.write(text + b"\n")
        except OSError as error:
            raise FraudError(f"{self.summary}: cannot be written ({reason_of(error)})") from None

    def release(self) -> None:
        """Let another stream have the directory."""
        lock.release(self.directory)


#: How the archives of streams name their parts (`state.archive`).
_PARTS = "part-[0-9][0-9][0-9]-*.parquet"


def claim_archives(
    directories: Sequence[Path], out: Path, checkpoint: LocalCheckpoint | None
) -> None:
    """See that no directory holds the parts of another stream, or of one whose state is lost.

    A stream removes parts of which its state knows nothing, as runs that were killed leave them.

    Args:
      directories: that the stream writes parts to, absolute.
      out: `--out`; it may be moved with what is in it.
      checkpoint: what remembers the directories; None where Beam's runner keeps the state, and a
        stream always starts anew.

    Raises:
      FraudError: a directory holds parts, and the state knows nothing of the directory.
    """
    for directory in directories:
        inside = directory.is_relative_to(out)
        name = f"parts in {directory.relative_to(out) if inside else directory}"
        if checkpoint is not None and checkpoint.knows(name):
            continue
        if any(any(directory.glob(parts)) for parts in (_PARTS, UNFINISHED_PARTS)):
            raise FraudError(
                f"{directory}: holds what another stream wrote, or one whose state is lost, and "
                "would be replaced; give another directory"
            )
        if checkpoint is not None:
            checkpoint.claim({name: "of this stream"})
