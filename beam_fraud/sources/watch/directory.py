"""A directory that is listed again and again for files that were dropped into it."""

from __future__ import annotations

import logging
import time
from collections import deque

from beam_fraud.sources.file_format import format_of, unknown_format
from beam_fraud.sources.watch.dropped import DroppedFile, Settling, list_directory, shown
from beam_fraud.sources.watch.position import WatchPosition
from beam_fraud.wording import reason_of

_LOG = logging.getLogger(__name__)
#: A listing waits this many times as long as the one before took: many files take long to list.
_REST = 5


class WatchedDirectory:
    """Hands out each file once it is whole, in order of time and name."""

    def __init__(self, directory: str, poll: float) -> None:
        self._directory = directory
        self._poll = poll
        self._settling = Settling()
        self._queue: deque[DroppedFile] = deque()
        self._warned: set[str] = set()
        self._missing = False
        self._next_listing = 0.0
        #: When the directory was last listed, by `time.monotonic`.
        self.listed_at = 0.0
        #: Whether that listing had a file which is not whole yet.
        self.growing = False

    def next(self, position: WatchPosition) -> DroppedFile | None:
        """Return a whole file that is not done at `position`, or None if there is none now."""
        if not self._queue and time.monotonic() >= self._next_listing:
            self._list(position)
        while self._queue:
            file = self._queue.popleft()
            # It may be long since it was listed; if it was changed, the next listing shows it.
            if file.now() == file:
                return file
        return None

    def _list(self, position: WatchPosition) -> None:
        begun = time.monotonic()
        found = [file for file in self._listed() if self._wanted(file, position)]
        whole, self.growing = self._settling.whole(found)
        self._queue.extend(whole)
        self.listed_at = time.monotonic()
        self._next_listing = self.listed_at + max(self._poll, _REST * (self.listed_at - begun))

    def _listed(self) -> list[DroppedFile]:
        try:
            listing = list_directory(self._directory)
        except OSError as error:
            if not self._missing:
                why = reason_of(error)
                _LOG.warning("%s: cannot be listed any more (%s); waiting", self._directory, why)
            self._missing = True
            return []
        if self._missing:
            _LOG.info("%s: can be listed again", self._directory)
        self._missing = False
        for name, why in listing.odd.items():
            self._warn(name, f"{shown(name)}: {why}; left out")
        return listing.files

    def _wanted(self, file: DroppedFile, position: WatchPosition) -> bool:
        if format_of(file.name) is None:
            self._warn(file.name, f"{unknown_format(file.shown)}; left out")
            return False
        if position.is_changed(file):
            again = "was changed after it was read; to have it read, give it another name"
            self._warn(file.name, f"{file.shown}: {again}")
        return not position.is_done(file)

    def _warn(self, name: str, message: str) -> None:
        if name not in self._warned:
            _LOG.warning("%s", message)
        self._warned.add(name)
