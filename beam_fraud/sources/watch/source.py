"""Files dropped into a directory, as a stream: each is read once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from apache_beam import coders
from apache_beam.io.unbounded_source import UnboundedSource

from beam_fraud.errors import FraudError
from beam_fraud.schema import Labels, Schema
from beam_fraud.sinks.folder import reason_of
from beam_fraud.sources.watch.mark import WATCH, WatchMark, WatchMarkCoder
from beam_fraud.sources.watch.position import WatchPosition
from beam_fraud.sources.watch.reader import WatchReader


@dataclass(frozen=True)
class WatchSource(UnboundedSource):
    """Parquet, CSV and JSON-lines files of a directory in raw batches (`sources.raw`).

    A file is taken when two listings have shown the same size and time of it. It is known by its
    name: a file that is changed after that is not read again, and a warning says so. One that
    cannot be read, or not to its end, is a dead letter. Folders, hidden files, and files that are
    named as unfinished (`.tmp`, `.part`, `.crdownload`, `~`) are passed over; links to nothing,
    pipes, files that stay empty and folders named like files as well, with a warning.
    """

    #: The directory; `check` says whether it can be read.
    directory: str
    #: What the files hold.
    schema: Schema
    #: What is made of labels.
    labels: Labels
    #: Rows of a batch at most.
    block_rows: int = 10_000
    #: Seconds between two listings.
    poll: float = 0.2
    #: How far the watermark stays behind the files' times (microseconds).
    lateness: int = 0
    #: The stream ends as soon as this file is there; None for never.
    stop_file: str | None = None
    #: The stream ends when no file came for so many seconds; None for never.
    until_idle: float | None = None
    #: Where to go on, as `checkpoint` has kept it under `mark.WATCH`; None for a new stream.
    positions: str | None = None
    #: Where positions are kept; None where the runner does that.
    checkpoint: Path | None = None

    def check(self) -> None:
        """See that the directory can be listed.

        Raises:
          FraudError: it is not there, is none, or is closed to this user.
        """
        try:
            with os.scandir(self.directory):
                return
        except OSError as error:
            why = reason_of(error)
        raise FraudError(
            f"{self.directory}: cannot be watched ({why}); give a directory that can be read"
        )

    def resumed(self, positions: Mapping[str, str]) -> WatchSource:
        """The source from where a run stopped that kept these positions."""
        return replace(self, positions=positions.get(WATCH))

    def split(self, desired_num_splits: int, options: Any = None) -> Sequence[UnboundedSource]:
        """One reader for the directory."""
        return [self]

    def create_reader(self, options: Any, checkpoint_mark: WatchMark | None) -> WatchReader:
        """A reader that goes on from the mark, else from `positions`, else begins."""
        if checkpoint_mark is not None:
            return WatchReader.at(self, checkpoint_mark.position)
        if self.positions is not None:
            return WatchReader(self, WatchPosition.decode(self.positions))
        return WatchReader(self, WatchPosition())

    def get_checkpoint_mark_coder(self) -> WatchMarkCoder:
        """How marks travel."""
        return WatchMarkCoder(self.checkpoint)

    def default_output_coder(self) -> coders.Coder:
        """The one for record batches."""
        return coders.registry.get_coder(pa.RecordBatch)
