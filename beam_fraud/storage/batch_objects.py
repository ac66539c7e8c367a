"""What a run over files leaves where `--out` is a URL: every worker writes there by itself."""

from __future__ import annotations

import io
import logging
import shutil
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pyarrow as pa

from beam_fraud.errors import FraudError
from beam_fraud.storage import objects
from beam_fraud.storage.batch_outputs import (
    SCORE_BRANCHES,
    STREAM,
    RunOutputs,
    local_directory,
    new_run_id,
)
from beam_fraud.storage.folder import reason_of
from beam_fraud.storage.parquet_writer import ParquetBlockWriter
from beam_fraud.storage.urls import is_url

_LOG = logging.getLogger(__name__)
_SUMMARY = "summary.json"


@dataclass(frozen=True)
class ObjectOutputs:
    """The URL of a run's outputs; it travels to the workers, which write to `part`.

    Nothing can be renamed at once there. So the graph itself publishes as its last step
    (`publish_parts`), whoever has launched it, and `summary.json` comes after that: while there is
    one, it describes the files beside it. No lock keeps two runs apart.

    For the launcher: `check`, `begin`, `write_summary`, or `abandon`. What a file system refuses is
    a FraudError in one line.
    """

    #: `--out`, without a slash at its end.
    directory: str
    #: The run, as `new_run_id` makes it.
    run_id: str
    #: Directories of Parquet files that the run leaves, and the schema of the files of each.
    branches: Mapping[str, pa.Schema] = field(default_factory=lambda: SCORE_BRANCHES)

    @property
    def shown(self) -> str:
        """The URL."""
        return self.directory

    @property
    def staging(self) -> str:
        """Where the run's files wait; hidden names are read by nobody."""
        return f"{self.directory}/.incoming-{self.run_id}"

    @property
    def scratch(self) -> Path:
        """For what a run on this machine keeps on its disk while it lives."""
        return Path(tempfile.gettempdir()) / f"beam-fraud-{self.run_id}"

    @property
    def outbox(self) -> None:
        """No database of alerts can be there."""
        return None

    @property
    def reserved(self) -> list[Path]:
        """Nothing of it is on this machine."""
        return []

    def place(self, branch: str) -> str:
        """Where the files of `branch` are in the end."""
        return f"{self.directory}/{branch}"

    def part(self, branch: str) -> str:
        """A new URL, at every call, for a Parquet file of `branch` (a key of `branches`)."""
        return f"{self.staging}/{branch}/part-{self.run_id}-{uuid.uuid4().hex[:12]}.parquet"

    def parts(self, branch: str) -> list[str]:
        """URLs of the run's files of `branch`, once they are published."""
        return self._found(f"{self.place(branch)}/part-{self.run_id}-*.parquet")

    def check(self) -> None:
        """See that the place can be listed and that what would be replaced looks like ours.

        Raises:
          UsageError: no file system knows the URL.
          FraudError: it cannot be listed, or holds what no run has written.
        """
        objects.check_scheme(f"--out {self.directory}", self.directory)
        if self._found(f"{self.directory}/{STREAM}/**"):
            raise FraudError(
                f"--out {self.directory}: holds what a stream has written; give another directory"
            )
        for branch in self.branches:
            for path in self._found(f"{self.place(branch)}/**"):
                name = path.removeprefix(f"{self.place(branch)}/")
                if not (name.startswith("part-") and name.endswith(".parquet") and "/" not in name):
                    raise FraudError(
                        f"--out {self.directory}: {path} was not written by a run and would be "
                        "replaced; move it away or give another directory"
                    )

    def begin(self) -> None:
        """See that the place can be written to, by a file that says that the run has started."""
        self.check()
        try:
            objects.write(f"{self.staging}/started", b"")
        except OSError as error:
            raise self.failure(error) from None

    def publish_parts(self, kept: Mapping[str, Sequence[str]]) -> None:
        """Put a run's files in the place of what an earlier run left; by one worker, in the end.

        May be done again, also at once with itself. A branch without rows gets an empty file.

        Args:
          kept: names of the parts by branch; others are of bundles that were done again.

        Raises:
          FraudError: the file system refuses.
        """
        try:
            objects.remove(objects.objects(f"{self.directory}/{_SUMMARY}"))
            final = set()
            for branch, schema in self.branches.items():
                for name in sorted(kept.get(branch, ())) or [self._empty(branch, schema)]:
                    place = f"{self.place(branch)}/{name}"
                    objects.move(f"{self.staging}/{branch}/{name}", place)
                    final.add(place)
            # Not before all are there: a failure leaves too much rather than too little.
            for branch in self.branches:
                there = objects.objects(f"{self.place(branch)}/part-*.parquet")
                objects.remove([path for path in there if path not in final])
            objects.remove(objects.objects(f"{self.staging}/**"))
        except OSError as error:
            raise self.failure(error) from None

    def publish(self) -> None:
        """Nothing: the graph has done it."""
        self._drop_scratch()

    def abandon(self) -> None:
        """Remove the staging of a failed run."""
        self._drop_scratch()
        try:
            objects.remove(objects.objects(f"{self.staging}/**"))
        except OSError as error:
            _LOG.warning("%s: cannot be removed (%s)", self.staging, reason_of(error))

    def write_summary(self, summary: Mapping[str, object]) -> bool:
        """Write `summary.json`, unless the files beside it are no longer this run's.

        Returns:
          Whether it was written. If not, another run has published at the same time or since.
        """
        for branch in self.branches:
            there = self._found(f"{self.place(branch)}/part-*.parquet")
            own = set(self.parts(branch))
            if not own or own != set(there):
                return False
        text = msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n"
        try:
            objects.write(f"{self.directory}/{_SUMMARY}", text)
        except OSError as error:
            raise self.failure(error) from None
        return True

    def failure(self, error: OSError) -> FraudError:
        """The one line for a file system that refuses; for workers that write to `part`."""
        return FraudError(f"--out {self.directory}: cannot be written ({reason_of(error)})")

    def _empty(self, branch: str, schema: pa.Schema) -> str:
        # Of one name, so that doing this again makes no second one.
        name = f"part-{self.run_id}-empty.parquet"
        held = io.BytesIO()
        ParquetBlockWriter(held, schema).close()
        objects.write(f"{self.staging}/{branch}/{name}", held.getvalue())
        return name

    def _found(self, pattern: str) -> list[str]:
        try:
            return objects.objects(pattern)
        except OSError as error:
            raise FraudError(
                f"--out {self.directory}: cannot be listed ({reason_of(error)})"
            ) from None

    def _drop_scratch(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)


#: Where a run over files writes.
BatchOutputs = RunOutputs | ObjectOutputs


def batch_outputs(out: str, branches: Mapping[str, pa.Schema] = SCORE_BRANCHES) -> BatchOutputs:
    """The outputs of a new run under `--out`.

    Args:
      out: a path, or a URL that Beam's file systems know.
      branches: directories of Parquet files, and the schema of the files of each.
    """
    if is_url(out):
        return ObjectOutputs(out.rstrip("/"), new_run_id(), branches)
    return RunOutputs(local_directory(out), new_run_id(), branches)
