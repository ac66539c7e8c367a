"""The status board: read the status files of all workers of a stream on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from beam_fraud.errors import Code, FraudError
from beam_fraud.monitoring.recorder import ENDING, close_recorder
from beam_fraud.monitoring.snapshot import Snapshot, merge


@contextmanager
def new_board(directory: Path) -> Iterator[Callable[[], Snapshot]]:
    """Create the empty directory of the workers' status files.

    After the body, the counts of this process are written; `read_board` still reads them.

    Args:
      directory: a directory for this run alone.

    Yields:
      A function that reads the directory as `read_board` does.

    Raises:
      FraudError: it cannot be created or emptied.
    """
    close_recorder(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for stale in directory.iterdir():
            stale.unlink()
    except OSError as error:
        raise FraudError(
            f"{directory}: cannot be made and emptied ({error.strerror}), "
            "give another --out or remove what is in the way",
            Code.OUTPUT_UNWRITABLE,
        ) from None
    try:
        yield lambda: read_board(directory)
    finally:
        close_recorder(directory)


def read_board(directory: Path) -> Snapshot:
    """Return the work of all workers; empty before any, or if the directory is gone."""
    return merge(_snapshots(directory))


def _snapshots(directory: Path) -> Iterator[Snapshot]:
    for file in sorted(directory.glob(f"*{ENDING}")):
        # A file may disappear at any time; ignore files of other versions.
        with suppress(OSError, msgspec.MsgspecError):
            yield msgspec.json.decode(file.read_bytes(), type=Snapshot)
