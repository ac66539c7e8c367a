"""Read new files of a directory, listed repeatedly, as a stream, each once."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from apache_beam import coders
from apache_beam.io.unbounded_source import UnboundedReader, UnboundedSource
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp

from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.sources.file_format import format_in_directory, unknown_format
from beam_fraud.sources.filesystem import FoundFile
from beam_fraud.sources.raw import DETAIL, PAYLOAD, POSITION, REASON, Origin, origin_of, with_origin
from beam_fraud.sources.source import find_inputs, read_segment, split_file
from beam_fraud.sources.tables import refuse_within_tables
from beam_fraud.sources.watch.dropped import DroppedFile, Settling, list_directory, shown
from beam_fraud.sources.watch.position import WATCH, WatchMark, WatchMarkCoder, WatchPosition
from beam_fraud.storage.checkpoint import LocalCheckpoint
from beam_fraud.storage.stream_outputs import StreamOutputs
from beam_fraud.storage.urls import Place
from beam_fraud.wording import reason_of

_LOG = logging.getLogger(__name__)
#: Pause between listings as a multiple of the last one's duration: many files take long to list.
_REST = 5
_RAW = pa.schema(
    [
        pa.field(POSITION, pa.int64()),
        pa.field(PAYLOAD, pa.binary()),
        pa.field(REASON, pa.string()),
        pa.field(DETAIL, pa.string()),
    ]
)


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
        if format_in_directory(file.name) is None:
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


def unreadable_file(name: str, row: int, detail: str, appended: int) -> pa.RecordBatch:
    """Return a raw batch (`sources.raw`) of one row that is a dead letter already.

    Args:
      name: name of the file in dead letters.
      row: first unreadable row, from 0.
      detail: the error, one line.
      appended: modification time of the file, milliseconds of the epoch.
    """
    origin = Origin(name, "jsonl", appended=appended)
    arrays = [
        pa.array([row], pa.int64()),
        pa.array([b""], pa.binary()),
        pa.array(["unreadable_file"]),
        pa.array([detail]),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=with_origin(_RAW, origin))


#: Readers closed before the end, by directory. Some runners close a reader after every bundle: the
#: next one needs the open file and the last listing.
_parked: dict[str, WatchReader] = {}


class WatchReader(UnboundedReader):
    """Read the raw batches (`sources.raw`) of a `WatchSource`."""

    def __init__(self, source: WatchSource, position: WatchPosition) -> None:
        self._source = source
        self._position = position
        self._directory = WatchedDirectory(source.directory, source.poll)
        self._batches: Generator[pa.RecordBatch] | None = None
        self._current: pa.RecordBatch | None = None
        self._timestamp = MIN_TIMESTAMP
        self._watermark = MIN_TIMESTAMP
        self._active_at = time.monotonic()
        self._ended = False

    @classmethod
    def at(cls, source: WatchSource, position: WatchPosition) -> WatchReader:
        """Return the reader closed at this position, or a new one."""
        parked = _parked.pop(source.directory, None)
        if parked is not None:
            if parked._source == source and parked._position == position:
                return parked
            parked._release()
        return cls(source, position)

    def start(self) -> bool:
        return self.advance()

    def advance(self) -> bool:
        """Read the next batch; return False without one.

        Raises:
          FraudError: an earlier position could not be committed.
        """
        if self._source.checkpoint is not None:
            LocalCheckpoint.at(self._source.checkpoint).refuse_failed()
        self._current = None
        if self._source.stop_file is not None and Path(self._source.stop_file).exists():
            self._ended = True
        while not self._ended and self._current is None and self._open():
            self._current = self._read()
        return self._current is not None

    def get_current(self) -> pa.RecordBatch:
        return self._current

    def get_current_timestamp(self) -> Timestamp:
        """Return the modification time of the file."""
        return self._timestamp

    def get_watermark(self) -> Timestamp:
        """Return that time less the lateness; the end of time at the end."""
        return MAX_TIMESTAMP if self._ended else self._watermark

    def get_checkpoint_mark(self) -> WatchMark:
        """Return the position after the last batch."""
        return WatchMark(self._position, self._source.checkpoint)

    def close(self) -> None:
        """Park the reader, so that another can continue here."""
        self._current = None
        if self._ended:
            self._release()
            return
        before = _parked.pop(self._source.directory, None)
        _parked[self._source.directory] = self
        if before is not None and before is not self:
            before._release()

    def _release(self) -> None:
        if self._batches is not None:
            self._batches.close()
        self._batches = None

    def _open(self) -> bool:
        """Open a file unless one is open; return False without one."""
        if self._batches is not None:
            return True
        if self._position.file is None:
            file = self._directory.next(self._position)
            if file is None:
                self._ended = self._is_idle()
                return False
            self._position = self._position.begun(file)
        if self._position.file is not None:
            self._batches = self._batches_of(self._position.file, self._position.rows)
        return True

    def _is_idle(self) -> bool:
        until = self._source.until_idle
        if self._directory.growing:
            self._active_at = self._directory.listed_at
            return False
        return until is not None and self._directory.listed_at - self._active_at >= until

    def _read(self) -> pa.RecordBatch | None:
        """Return the next batch of the open file; at its end, None."""
        file = self._position.file
        if file is None or self._batches is None:
            return None
        try:
            batch = next(self._batches, None)
        except FraudError as error:
            # One unreadable file must not keep the stream from the others.
            _LOG.warning("%s; it is a dead letter, and the stream continues", error)
            row, appended = self._position.rows, _milliseconds(file)
            batch = unreadable_file(file.shown, row, str(error), appended)
            self._finish()
        else:
            if batch is None:
                self._finish()
                return None
            self._position = self._position.read(len(batch))
        self._active_at = time.monotonic()
        self._timestamp = Timestamp(micros=file.modified // 1_000)
        # A file's time may lie in the future; later files are not late for that.
        known = Timestamp(micros=min(file.modified, time.time_ns()) // 1_000)
        self._watermark = max(self._watermark, known - self._source.lateness / 1e6)
        return batch

    def _finish(self) -> None:
        self._position = self._position.finished()
        self._release()

    def _batches_of(self, file: DroppedFile, done: int) -> Generator[pa.RecordBatch]:
        """Yield the raw batches of a file after its first `done` rows."""
        source = self._source
        if file.now() is None:
            raise FraudError(
                f"{file.shown}: was removed before it was read to the end", Code.INPUT_CHANGED
            )
        _refuse_changed(file)
        if format_in_directory(file.name) is None:
            raise FraudError(str(unknown_format(file.shown)), Code.INPUT_FORMAT)
        (input_file,) = find_inputs(
            [Place.at(Path(file.path))], source.schema, labels=source.labels
        )
        row = 0
        for segment in split_file(input_file, None):
            for batch in read_segment(
                segment, source.schema, source.block_rows, labels=source.labels
            ):
                _refuse_changed(file)
                before, row = row, row + len(batch)
                if row <= done:
                    continue
                origin = replace(origin_of(batch), appended=_milliseconds(file))
                described = with_origin(batch.schema, origin).metadata
                yield batch.slice(max(0, done - before)).replace_schema_metadata(described)
        _refuse_changed(file)


def _refuse_changed(file: DroppedFile) -> None:
    # Rows of the old and the new contents would count as one file's. Removing an open file is
    # harmless.
    if file.now() not in (file, None):
        raise FraudError(
            f"{file.shown}: was changed before it was read to the end; "
            "write what was not read to a new file",
            Code.INPUT_CHANGED,
        )


def _milliseconds(file: DroppedFile) -> int:
    return file.modified // 1_000_000


@dataclass(frozen=True)
class WatchedFiles:
    """The files of a directory as `--watch` names it."""

    place: Place

    @property
    def kafka(self) -> None:
        """Connection settings of the topics to write: there are none."""

    @property
    def registry(self) -> None:
        """Schema registry of the messages: there are none."""

    @property
    def worker_files(self) -> Mapping[str, str]:
        """Files that every worker reads itself: there are none."""
        return {}

    @property
    def shown(self) -> str:
        """Name of the source, for messages."""
        return self.place.shown

    def source(
        self,
        schema: Schema,
        labels: Labels,
        outputs: StreamOutputs,
        *,
        here: bool,
        reordered: bool,
        until_idle: float | None,
        lateness: int,
    ) -> WatchSource:
        """Return the source of the files.

        Args:
          schema: schema of the files.
          labels: treatment of labels.
          outputs: outputs of the stream, with its state.
          here: whether it runs in this process, and keeps its state there.
          reordered, lateness: of topics alone.
          until_idle: idle seconds after which it ends; None for never.

        Raises:
          FraudError: the directory cannot be listed.
        """
        source = WatchSource(
            directory=self.place.name,
            schema=schema,
            labels=labels,
            stop_file=str(outputs.stop_file),
            until_idle=until_idle,
            checkpoint=outputs.checkpoint if here else None,
        )
        source.check()
        return source

    def check_written(self) -> None:
        """Do nothing: there are no topics to write."""

    def identity(self) -> dict[str, str]:
        """Return the part of the source in the identity of a stream."""
        return {"source": f"--watch {self.shown}"}


@dataclass(frozen=True)
class WatchSource(UnboundedSource):
    """Files of a directory in raw batches (`sources.raw`).

    A file is read once two listings agree on its size and time. Its name identifies it: a later
    change is not read, and a warning says so. An unreadable file, or rest of a file, is a dead
    letter. The source skips folders, hidden files and names of unfinished files (`.tmp`, `.part`,
    `.crdownload`, `~`); it also skips, with a warning, dangling links, pipes, files that stay empty
    and folders named like files.
    """

    #: The directory.
    directory: str
    #: Schema of the files.
    schema: Schema
    #: Treatment of labels.
    labels: Labels
    #: Maximum of rows per batch.
    block_rows: int = 10_000
    #: Seconds between two listings.
    poll: float = 0.2
    #: Microseconds of the watermark behind the files' times.
    lateness: int = 0
    #: The stream ends once this file exists; None for never.
    stop_file: str | None = None
    #: The stream ends after so many idle seconds; None for never.
    until_idle: float | None = None
    #: Position to resume at, as `checkpoint` stores it under `position.WATCH`; None for a new
    #: stream.
    positions: str | None = None
    #: The checkpoint; None if the runner stores positions.
    checkpoint: Path | None = None

    def check(self) -> None:
        """Check that the directory can be listed.

        Raises:
          FraudError: it does not exist, is no directory, this user may not read it, or it is of a
            table.
        """
        try:
            with os.scandir(self.directory):
                refuse_within_tables([FoundFile(Place.at(Path(self.directory) / "any"), "", 0)])
                return
        except OSError as error:
            why = reason_of(error)
        raise FraudError(
            f"{self.directory}: cannot be watched ({why}); give a directory that can be read",
            Code.INPUT_UNREADABLE,
        )

    def resumed(self, positions: Mapping[str, str]) -> WatchSource:
        """Return the source that resumes at these positions."""
        return replace(self, positions=positions.get(WATCH))

    def split(self, desired_num_splits: int, options: Any = None) -> Sequence[UnboundedSource]:
        """Return the source itself: a directory has one reader."""
        return [self]

    def create_reader(self, options: Any, checkpoint_mark: WatchMark | None) -> WatchReader:
        """Return a reader that resumes at the mark, else at `positions`, else begins."""
        if checkpoint_mark is not None:
            return WatchReader.at(self, checkpoint_mark.position)
        if self.positions is not None:
            return WatchReader(self, WatchPosition.decode(self.positions))
        return WatchReader(self, WatchPosition())

    def get_checkpoint_mark_coder(self) -> WatchMarkCoder:
        return WatchMarkCoder(self.checkpoint)

    def default_output_coder(self) -> coders.Coder:
        return coders.registry.get_coder(pa.RecordBatch)
