"""What all workers of a stream on this machine tell, read together."""

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
    """Make the directory that the workers of a run write to, without what earlier runs left.

    After the body, what steps in this process have counted is written; `read_board` still reads it.

    Args:
      directory: for this alone; no other run may use it at the time.

    Yields:
      What reads the directory, as `read_board` does.

    Raises:
      FraudError: it cannot be made or emptied.
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
    """What all workers have done; empty if none has written yet, or the directory is gone."""
    return merge(_snapshots(directory))


def _snapshots(directory: Path) -> Iterator[Snapshot]:
    for file in sorted(directory.glob(f"*{ENDING}")):
        # A file may go at any time, and one of another version is not ours to read.
        with suppress(OSError, msgspec.MsgspecError):
            yield msgspec.json.decode(file.read_bytes(), type=Snapshot)
