"""List a directory repeatedly for new files."""

from __future__ import annotations

import logging
import time
from collections import deque

from beam_fraud.platform.wording import reason_of
from beam_fraud.sources.file_format import format_of, unknown_format
from beam_fraud.sources.watch.dropped import DroppedFile, Settling, list_directory, shown
from beam_fraud.sources.watch.position import WatchPosition

_LOG = logging.getLogger(__name__)
#: Pause between listings as a multiple of the last one's duration: many files take long to list.
_REST = 5


class WatchedDirectory:
    """Return each file once it is complete, in order of time and name."""

    def __init__(self, directory: str, poll: float) -> None:
        self._directory = directory
        self._poll = poll
        self._settling = Settling()
        self._queue: deque[DroppedFile] = deque()
        self._warned: set[str] = set()
        self._missing = False
        self._next_listing = 0.0
        #: Time of the last listing, by `time.monotonic`.
        self.listed_at = 0.0
        #: Whether that listing had an incomplete file.
        self.growing = False

    def next(self, position: WatchPosition) -> DroppedFile | None:
        """Return a complete file that is not done at `position`, or None."""
        if not self._queue and time.monotonic() >= self._next_listing:
            self._list(position)
        while self._queue:
            file = self._queue.popleft()
            # The listing may be old; the next one shows any change of the file.
            if file.now() == file:
                return file
        return None

    def _list(self, position: WatchPosition) -> None:
        begun = time.monotonic()
        files = [file for file in self._listed() if self._is_new(file, position)]
        whole, self.growing = self._settling.whole(files)
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

    def _is_new(self, file: DroppedFile, position: WatchPosition) -> bool:
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
