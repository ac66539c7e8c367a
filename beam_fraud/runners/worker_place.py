"""Files and directories that workers open, wherever they run."""

from __future__ import annotations

from dataclasses import dataclass

from beam_fraud.storage.urls import is_url


@dataclass(frozen=True)
class WorkerPlace:
    """Something that workers read or write; its text is what messages show."""

    #: The option that names it; empty for a file to read.
    option: str
    #: Its path or URL.
    place: str
    #: Whether workers write it.
    written: bool = False
    #: Whether it can only be on a disk.
    on_disk: bool = False
    #: What to give in its place where workers see no disk but their own.
    fix: str = "put it in a bucket and give gs://BUCKET/PATH"

    @property
    def local(self) -> bool:
        """Whether only this machine has it, unless others share its disk."""
        return self.on_disk or not is_url(self.place)

    def __str__(self) -> str:
        return f"{self.option} {self.place}".strip()
