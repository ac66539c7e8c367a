"""Files and directories that workers open."""

from __future__ import annotations

from dataclasses import dataclass

from beam_fraud.storage.urls import Place


@dataclass(frozen=True)
class WorkerPlace:
    """A file or directory of workers; `str` gives its form in messages."""

    #: The option that names it; empty for a file to read.
    option: str
    place: Place
    #: Whether workers write it.
    written: bool = False
    #: Whether it must be on a disk.
    on_disk: bool = False
    #: Alternative for workers without a shared disk.
    fix: str = "put it in a bucket and give gs://BUCKET/PATH"

    @property
    def local(self) -> bool:
        """Return whether it is on this machine's disk alone, unless others share the disk."""
        return self.on_disk or self.place.local is not None

    def __str__(self) -> str:
        return f"{self.option} {self.place.shown}".strip()
