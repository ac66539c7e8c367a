"""What a stream leaves where `--out` is a URL: its runner keeps the state, workers the archive."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from beam_fraud.errors import FraudError, UsageError
from beam_fraud.storage import objects
from beam_fraud.storage.batch_outputs import DEAD_LETTERS, SCORES, STREAM, new_run_id
from beam_fraud.storage.folder import make_directory, reason_of
from beam_fraud.storage.stream_outputs import StreamOutputs


@dataclass(frozen=True)
class ObjectStreamOutputs(StreamOutputs):
    """The URL of a stream's outputs; `directory` is for what the command needs while it runs."""

    #: `--out`, without a slash at its end.
    url: str = ""
    #: Whether a job that runs is replaced, whose archive goes on.
    update: bool = False

    @property
    def outbox(self) -> None:
        """No database can be there."""
        return None

    @property
    def reserved(self) -> list[Path]:
        """Nothing of it is on this machine."""
        return []

    @property
    def shown(self) -> str:
        """The URL."""
        return self.url

    def archive(self, name: str) -> str:
        """The URL of the Parquet files of `scores` or `dead_letters`."""
        return f"{self.url}/{name}"

    def check(self, *, here: bool, taken_up: bool = False) -> None:
        """See that the place can be listed and that no other stream has written there.

        Raises:
          UsageError: no file system knows the URL, or the stream keeps its state on this machine.
          FraudError: it cannot be listed, or holds what this stream would remove.
        """
        if here:
            raise UsageError(
                f"--out {self.url}: a stream on this machine keeps its state there; give a local "
                "directory, or another --runner"
            )
        objects.check_scheme(f"--out {self.url}", self.url)
        for name in () if self.update or taken_up else (SCORES, DEAD_LETTERS):
            try:
                found = objects.objects(f"{self.archive(name)}/**")
            except OSError as error:
                why = reason_of(error)
                raise FraudError(f"--out {self.url}: cannot be listed ({why})") from None
            if found:
                raise FraudError(
                    f"--out {self.url}: {name} holds what another run wrote; give another place"
                )

    def begin(self) -> None:
        """Make the directory of this machine."""
        make_directory(self.own)

    def read_about(self) -> bytes | None:
        """What `write_about` has written there.

        Raises:
          FraudError: the file system refuses.
        """
        place = f"{self.url}/{STREAM}/about.json"
        try:
            return objects.read(place) if objects.exists(place) else None
        except OSError as error:
            why = reason_of(error)
            raise FraudError(f"--out {self.url}: cannot be read ({why})") from None

    def write_about(self, about: bytes) -> None:
        """Write what the stream is whose state Beam's runner keeps.

        Raises:
          FraudError: the file system refuses.
        """
        try:
            objects.write(f"{self.url}/{STREAM}/about.json", about)
        except OSError as error:
            why = reason_of(error)
            raise FraudError(f"--out {self.url}: cannot be written ({why})") from None

    def write_summary(self, summary: Mapping[str, object]) -> None:
        """Write `summary.json`.

        Raises:
          FraudError: the file system refuses.
        """
        text = msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n"
        try:
            objects.write(f"{self.url}/summary.json", text)
        except OSError as error:
            why = reason_of(error)
            raise FraudError(f"--out {self.url}: cannot be written ({why})") from None

    def release(self) -> None:
        """Nothing is locked there."""


def object_stream_outputs(url: str, *, update: bool) -> ObjectStreamOutputs:
    """The outputs of a stream at a URL.

    Args:
      url: `--out`.
      update: whether a job that runs is replaced.
    """
    directory = Path(tempfile.gettempdir()) / f"beam-fraud-{new_run_id()}"
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return ObjectStreamOutputs(directory, url.rstrip("/"), update)
