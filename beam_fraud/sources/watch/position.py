"""The position of a stream in a watched directory."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
from apache_beam.coders import Coder
from apache_beam.io.unbounded_source import CheckpointMark

from beam_fraud.errors import Code, FraudError
from beam_fraud.sources.watch.dropped import DroppedFile
from beam_fraud.storage.checkpoint import LocalCheckpoint

#: Bytes of a file in `WatchPosition.done`: the hashes of its name and of its size and time.
_NAME, _ENTRY = 8, 12


@dataclass(frozen=True)
class WatchPosition:
    """The finished files, and the rows done of the current one."""

    #: 12 bytes per finished file, in order.
    done: bytes = field(default=b"", repr=False)
    #: The current file in its state at the start.
    file: DroppedFile | None = None
    #: Rows done of the current file.
    rows: int = 0

    def begun(self, file: DroppedFile) -> WatchPosition:
        """Return the position before the first row of `file`."""
        return WatchPosition(self.done, file)

    def read(self, rows: int) -> WatchPosition:
        """Return the position after `rows` more rows of the current file."""
        return WatchPosition(self.done, self.file, self.rows + rows)

    def finished(self) -> WatchPosition:
        """Return the position after the current file."""
        if self.file is None:
            return self
        return WatchPosition(self.done + self.file.name_hash + self.file.content_hash)

    def is_done(self, file: DroppedFile) -> bool:
        """Return whether a file of that name is done."""
        return file.name_hash in self._known

    def is_changed(self, file: DroppedFile) -> bool:
        """Return whether a finished file now has another size or time."""
        return self._known.get(file.name_hash, file.content_hash) != file.content_hash

    def encode(self) -> bytes:
        """Return the position as JSON; equal positions give equal bytes."""
        file = None if self.file is None else _FileFields.of(self.file)
        return msgspec.json.encode(_Fields(self.done, file, self.rows))

    @classmethod
    def decode(cls, encoded: bytes | str) -> WatchPosition:
        """Return the inverse of `encode`.

        Raises:
          FraudError: it was not encoded by `encode`.
        """
        try:
            stored = msgspec.json.decode(encoded, type=_Fields)
        except msgspec.DecodeError as error:
            raise FraudError(
                f"the position in the watched directory cannot be read ({error}); "
                "give another --out, or remove all of this one to start again",
                Code.STATE_UNREADABLE,
            ) from None
        file = None if stored.file is None else stored.file.dropped()
        return cls(stored.done, file, stored.rows)

    @cached_property
    def _known(self) -> dict[bytes, bytes]:
        entries = range(0, len(self.done), _ENTRY)
        return {self.done[i : i + _NAME]: self.done[i + _NAME : i + _ENTRY] for i in entries}


class _FileFields(msgspec.Struct, frozen=True):
    path: bytes
    size: int
    modified: int

    @classmethod
    def of(cls, file: DroppedFile) -> _FileFields:
        return cls(os.fsencode(file.path), file.size, file.modified)

    def dropped(self) -> DroppedFile:
        return DroppedFile(os.fsdecode(self.path), self.size, self.modified)


class _Fields(msgspec.Struct, frozen=True):
    done: bytes
    file: _FileFields | None
    rows: int


#: Name of the position in the checkpoint.
WATCH = "watch"


@dataclass(frozen=True)
class WatchMark(CheckpointMark):
    """A position to resume from, committed once everything before it is."""

    #: The position.
    position: WatchPosition
    #: The stream's checkpoint; None if the runner stores positions.
    checkpoint: Path | None

    def finalize_checkpoint(self) -> None:
        """Commit the position together with the state of the steps.

        Raises:
          FraudError: it cannot be written. Beam only logs that; the reader's next call raises it
            again.
        """
        if self.checkpoint is not None:
            text = self.position.encode().decode()
            LocalCheckpoint.at(self.checkpoint).commit({WATCH: text})


class WatchMarkCoder(Coder):
    """Encode the position as JSON; equal marks give equal bytes."""

    def __init__(self, checkpoint: Path | None) -> None:
        self._checkpoint = checkpoint

    def encode(self, value: WatchMark) -> bytes:
        return value.position.encode()

    def decode(self, encoded: bytes) -> WatchMark:
        return WatchMark(WatchPosition.decode(encoded), self._checkpoint)

    def is_deterministic(self) -> bool:
        return True

    def to_type_hint(self) -> Any:
        return WatchMark
