"""A list from the file of its changes."""

from __future__ import annotations

from pathlib import Path

from beam_fraud.decisions.lists.changes import (
    Change,
    Tail,
    list_file,
    missing_list,
    read_history,
    read_tail,
)
from beam_fraud.decisions.lists.source import ListSource, Update


class FileList(ListSource):
    """The changes that `lists add|remove|import` appends.

    Args:
      directory: the directory of the lists.
      name: of the list.
    """

    look_seconds = 1.0

    def __init__(self, directory: Path, name: str) -> None:
        self._directory, self._name = directory, name
        self._path = list_file(directory, name)
        #: Inode, and position of what was read.
        self._file, self._end = 0, 0

    def read_all(self) -> Update:
        """Return all changes."""
        tail = read_tail(self._directory, self._name)
        self._file, self._end = self._stat()[0], tail.end
        return Update(tail.changes, whole=True)

    def read_new(self) -> Update | None:
        """Return the lines that were appended; all if another file is in the place."""
        file, size = self._stat()
        if file != self._file or size < self._end:
            return self.read_all()
        if size == self._end:
            return None
        tail: Tail = read_tail(self._directory, self._name, self._end)
        self._end = tail.end
        return Update(tail.changes)

    def _stat(self) -> tuple[int, int]:
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            raise missing_list(self._directory, self._name) from None
        return stat.st_ino, stat.st_size

    def history(self) -> list[Change]:
        """Return all changes."""
        return read_history(self._directory, self._name)

    def describe(self) -> str:
        """Return the file."""
        return f"file {self._path}"
