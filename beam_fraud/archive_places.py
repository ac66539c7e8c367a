"""Which directories of Parquet files are a stream's own: parts that are not go lost there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from beam_fraud.checkpoint.local_checkpoint import LocalCheckpoint
from beam_fraud.errors import FraudError
from beam_fraud.sinks.staging import UNFINISHED_PARTS

#: How the archives of streams name their parts (`shards.archive`).
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
