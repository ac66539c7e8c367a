"""The position in a watched directory, as Beam and the stream's checkpoint keep it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apache_beam.coders import Coder
from apache_beam.io.unbounded_source import CheckpointMark

from beam_fraud.checkpoint.local_checkpoint import LocalCheckpoint
from beam_fraud.sources.watch.position import WatchPosition

#: Under which name the checkpoint keeps the position.
WATCH = "watch"


@dataclass(frozen=True)
class WatchMark(CheckpointMark):
    """A position to go on from, made durable once everything before it is."""

    #: Where to go on.
    position: WatchPosition
    #: The stream's checkpoint; None where the runner keeps positions itself.
    checkpoint: Path | None

    def finalize_checkpoint(self) -> None:
        """Commit the position, and with it what the steps of the graph have kept.

        Raises:
          FraudError: it cannot be written. Beam only logs that; the reader's next call repeats it.
        """
        if self.checkpoint is not None:
            text = self.position.encode().decode()
            LocalCheckpoint.at(self.checkpoint).commit({WATCH: text})


class WatchMarkCoder(Coder):
    """The position as JSON; equal marks give equal bytes."""

    def __init__(self, checkpoint: Path | None) -> None:
        self._checkpoint = checkpoint

    def encode(self, value: WatchMark) -> bytes:
        """Write the position."""
        return value.position.encode()

    def decode(self, encoded: bytes) -> WatchMark:
        """The inverse of `encode`."""
        return WatchMark(WatchPosition.decode(encoded), self._checkpoint)

    def is_deterministic(self) -> bool:
        """Equal marks are encoded alike."""
        return True

    def to_type_hint(self) -> Any:
        """What is coded."""
        return WatchMark
