"""Rows to Parquet files, each row in exactly one of them whatever is done again."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyarrow as pa

from beam_fraud.errors import Code, FraudError
from beam_fraud.state.row_bytes import rows_from_bytes, rows_to_bytes
from beam_fraud.state.shard import Delta, Effects, Unaged
from beam_fraud.storage.archive_folder import ArchiveFolder, UnfinishedPart
from beam_fraud.wording import reason_of

#: What a delta says: the number of the next part, rows and when they came, or the number and hidden
#: name of a part that is to become visible.
_NUMBER, _ROWS, _FINISHED = b"N", b"R", b"F"
_NUMBER_FORM = struct.Struct("<cQ")
_ROWS_FORM = struct.Struct("<cd")


class ArchiveShard(Unaged):
    """Writes `part-<shard>-<number>.parquet`, numbered from 0.

    Rows that are in no visible part yet are kept as they come, and written to a hidden file as
    well, so that finishing it takes little time. A part becomes visible just before the state that
    knows of it is kept. A process that dies in between leaves a part whose rows come again:
    `restore` removes it. What it knows is in the state alone; the hidden file is made again.

    With `deferred` a part becomes visible afterwards (`Effects.afterwards`), or by `restore` if the
    process dies just then: for hosts that forget shards of which nothing was kept for good, and so
    cannot have them remove what they have left.

    To roll what a stream has left, without a graph: `restore` what was kept, then `finish`, and
    keep the effects.

    Args:
      directory: of the parts, or its URL; made by `restore`.
      schema: of the batches that come.
      shard: number of this shard.
      rows: a part is rolled as soon as it has so many; it may have more by less than a batch.
      seconds: or as soon as its oldest row has waited for so long.
      deferred: whether parts become visible only once what is kept is kept for good.
      clock: the time, seconds of the epoch.
    """

    def __init__(
        self,
        directory: Path | str,
        schema: pa.Schema,
        shard: int,
        rows: int,
        seconds: float,
        *,
        deferred: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._folder = ArchiveFolder(directory)
        self._schema = schema
        self._prefix = f"part-{shard:03d}-"
        self._most_rows = rows
        self._most_seconds = seconds
        self._deferred = deferred
        self._clock = clock
        self._number = 0
        #: Number to hidden file of parts that may not be visible yet.
        self._finished: dict[int, str] = {}
        self._rows = 0
        #: When the oldest of the rows came.
        self._since = 0.0
        self._part: UnfinishedPart | None = None
        #: Rows that were kept and are not in `_part` yet, as `rows_to_bytes` made them.
        self._unwritten: list[bytes] = []

    @property
    def waiting(self) -> bool:
        """Whether there are rows in no visible part."""
        return self._rows > 0 or bool(self._finished)

    def restore(self, kept: Sequence[bytes]) -> Effects:
        """Take up the rows; remove parts and unfinished files of which the state knows nothing."""
        for data in kept:
            if data[:1] == _NUMBER and len(data) == _NUMBER_FORM.size:
                _, self._number = _NUMBER_FORM.unpack(data)
            elif data[:1] == _FINISHED and len(data) > _NUMBER_FORM.size:
                _, number = _NUMBER_FORM.unpack_from(data)
                name = data[_NUMBER_FORM.size :].decode("utf-8", "replace")
                self._finished[number] = Path(name).name
            elif data[:1] == _ROWS and len(data) > _ROWS_FORM.size:
                _, came = _ROWS_FORM.unpack_from(data)
                self._count(self._checked(data[_ROWS_FORM.size :]), came)
            else:
                raise FraudError(
                    f"{self._directory}: the stream's state is damaged; {_ANEW}",
                    Code.STATE_UNREADABLE,
                )
        with self._one_line_errors():
            self._folder.take_up(self._prefix, self._number, self._finished)
        self._finished = {}
        return Effects()

    def take(self, batch: pa.RecordBatch) -> Effects:
        """Keep the rows, and roll if these fill a part."""
        if not batch.num_rows:
            return Effects()
        now = self._clock()
        with self._one_line_errors():
            self._unfinished().write(batch)
        self._count(batch.num_rows, now)
        if self._rows >= self._most_rows:
            return self._roll()
        return Effects(deltas=[Delta(_ROWS_FORM.pack(_ROWS, now) + rows_to_bytes(batch))])

    def tick(self, now: float) -> Effects:
        """Roll if the oldest row has waited for long enough."""
        self._finished = {n: h for n, h in self._finished.items() if self._folder.hides(h)}
        # A clock that was set back must not keep rows waiting until it is where it was.
        self._since = min(self._since, now)
        due = self._rows >= self._most_rows or now - self._since >= self._most_seconds
        return self._roll() if self._rows and due else Effects()

    def finish(self) -> Effects:
        """Roll what there is."""
        return self._roll() if self._rows else Effects()

    def _count(self, rows: int, came: float) -> None:
        self._since = min(self._since, came) if self._rows else came
        self._rows += rows

    def _checked(self, rows: bytes) -> int:
        """Put rows that were kept with those that are to be written again; how many they are."""
        batch = rows_from_bytes(rows)
        if not batch.schema.equals(self._schema):
            raise FraudError(
                f"{self._directory}: the stream's state has rows of another version; {_ANEW}",
                Code.STATE_UNREADABLE,
            )
        self._unwritten.append(rows)
        return int(batch.num_rows)

    def _unfinished(self) -> UnfinishedPart:
        if self._part is None:
            self._part = self._folder.begin(self._prefix, self._schema)
            for rows in self._unwritten:
                self._part.write(rows_from_bytes(rows))
            self._unwritten = []
        return self._part

    def _roll(self) -> Effects:
        number = self._number
        with self._one_line_errors():
            hidden = self._folder.hide(self._unfinished())
            if not self._deferred:
                self._folder.publish(hidden, self._prefix, number)
        self._part = None
        self._number += 1
        self._rows = 0
        deltas = [Delta(_NUMBER_FORM.pack(_NUMBER, self._number))]
        if not self._deferred:
            return Effects(deltas=deltas, replaces=True)
        self._finished[number] = hidden
        afterwards = partial(self._folder.publish, hidden, self._prefix, number)
        for number, name in self._finished.items():
            deltas.append(Delta(_NUMBER_FORM.pack(_FINISHED, number) + name.encode()))
        return Effects(deltas=deltas, replaces=True, afterwards=[afterwards])

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # The disk may be full, and the rows are kept.
            if self._part is not None:
                self._part.discard()
            raise FraudError(
                f"{self._directory}: cannot be written ({reason_of(error)}); "
                "mend that and start the stream again, nothing is lost",
                Code.OUTPUT_UNWRITABLE,
            ) from None


_ANEW = "start anew with another --out"
