"""Write rows to Parquet files, each row to exactly one of them despite retries."""

from __future__ import annotations

import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa

from beam_fraud.decisions.inputs import KEPT
from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.stages import completed
from beam_fraud.state.shard import Delta, Effects, Unaged, rows_from_bytes, rows_to_bytes
from beam_fraud.storage import atomic
from beam_fraud.storage.parquet_writer import ParquetBlockWriter
from beam_fraud.storage.store import store_at
from beam_fraud.wording import reason_of

#: Rows per row group: few, so that no batch waits long for the write of earlier ones.
_ROW_GROUP_ROWS = 16_384
#: Forms of a delta: the number of the next part, rows and their arrival, or the number and hidden
#: name of a part to publish.
_NUMBER, _ROWS, _FINISHED = b"N", b"R", b"F"
_NUMBER_FORM = struct.Struct("<cQ")
_ROWS_FORM = struct.Struct("<cd")


class UnfinishedPart:
    """A part in a hidden file of its final directory.

    Every method raises OSError if the file system fails, and pa.ArrowException if Arrow does.

    Args:
      directory: the directory.
      prefix: prefix of the name after the dot.
      schema: schema of the batches.
      beside: whether a thread writes row groups (`ParquetBlockWriter`).
    """

    def __init__(
        self, directory: Path, prefix: str, schema: pa.Schema, *, beside: bool = False
    ) -> None:
        self._path = atomic.hidden_name(directory, f"{prefix}{uuid.uuid4().hex[:12]}")
        self._file = open(self._path, "wb")  # noqa: SIM115
        self._writer = ParquetBlockWriter(self._file, schema, _ROW_GROUP_ROWS, beside=beside)
        #: Held by who writes to the file or closes it, or waits until it is closed.
        self._using = threading.Lock()
        self._closed: Exception | bool = False

    def write(self, batch: pa.RecordBatch) -> None:
        """Append the rows of `batch`; ValueError if the file is closed, as they would be lost."""
        with self._using:
            if isinstance(self._closed, Exception):
                raise self._closed
            if self._closed:
                raise ValueError(f"{self._path.name} is closed")
            self._writer.write(batch)

    def finish(self) -> Path:
        """Close the file and return its path, still hidden, for `publish`; in any thread, again."""
        with self._using:
            if not self._closed:
                try:
                    self._writer.close()
                    atomic.sync(self._file)
                    self._file.close()
                    self._closed = True
                except (OSError, pa.ArrowException) as error:
                    # Closed again, it would seem whole without the rows that were not written.
                    self._closed = error
            if isinstance(self._closed, Exception):
                raise self._closed
        return self._path

    def discard(self) -> None:
        """Remove the file after a failure."""
        # Closing would write again after a failed write.
        self._path.unlink(missing_ok=True)


_ENDING = ".parquet"


class ArchiveFolder:
    """Operations of a shard on its parts; OSError if the file system fails.

    `prefix` is that of the shard's parts; a hidden name is a result of `hide`. At a URL, parts grow
    on the worker's disk. A worker that the runner believes dead may still upload a part whose rows
    another worker wrote; so names there never repeat, and such rows appear twice rather than others
    not at all.
    """

    def __init__(self, place: Path | str) -> None:
        self._store = store_at(place)
        self._at_url = not isinstance(place, Path)

    def take_up(self, prefix: str, number: int, finished: Mapping[int, str]) -> None:
        """Create the folder; publish finished parts, remove later ones and leftovers."""
        self._store.make()
        for which, hidden in finished.items():
            self.publish(hidden, prefix, which)
        parts = self._store.list(f"{prefix}*{_ENDING}")
        later = [name for name in parts if _number(name, prefix) >= number]
        self._store.remove([*later, *self._store.list(f".{prefix}*{atomic.ENDING}")])

    def begin(self, prefix: str, schema: pa.Schema, *, beside: bool = False) -> UnfinishedPart:
        """Begin a hidden part, whose row groups a thread writes `beside` the caller."""
        return UnfinishedPart(self._store.scratch, prefix, schema, beside=beside)

    def hide(self, part: UnfinishedPart) -> str:
        """Finish a part, for `publish`, and return its hidden name."""
        file = part.finish()
        self._store.take(file)
        return file.name

    def hides(self, hidden: str) -> bool:
        """Return whether a hidden part still exists."""
        return self._store.exists(hidden)

    def publish(self, hidden: str, prefix: str, number: int) -> None:
        """Publish a part atomically and durably; idempotent."""
        if self._at_url and not self.hides(hidden):
            return
        token = f"-{Path(hidden).stem.rpartition('-')[2]}" if self._at_url else ""
        self._store.move(hidden, f"{prefix}{number:08d}{token}{_ENDING}")


def _number(name: str, prefix: str) -> int:
    """Return the number of a part; -1 for other files."""
    number = name.removeprefix(prefix).removesuffix(_ENDING).partition("-")[0]
    return int(number) if number.isdigit() else -1


class ArchiveShard(Unaged):
    """Writes `part-<shard>-<number>.parquet`, numbered from 0.

    Rows in no visible part are committed as they arrive, and also written to a hidden file, so that
    finishing it takes little time. A part becomes visible just before the state that records it is
    committed. If the process dies in between, the part's rows come again: `restore` removes the
    part. The state alone is authoritative; the hidden file is rebuilt.

    With `deferred` a part becomes visible after the commit (`Effects.afterwards`), or by `restore`
    if the process dies just then: for hosts that forget shards without committed state, and so
    cannot remove their leftovers.

    To finish the parts of a stopped stream without a graph: `restore` its state, then `finish`, and
    commit the effects.

    Args:
      directory: directory or URL of the parts; `restore` creates it.
      schema: schema of the batches; those that keep other inputs of decisions, as before a new
        model or option, are in parts of their own.
      shard: number of this shard.
      rows: rows at which a part is finished; it may exceed them by less than a batch.
      seconds: age of its oldest row at which a part is finished.
      deferred: whether parts become visible only after the commit.
      beside: whether threads write and close the hidden files, of which the next call has the
        errors. A full or old part is finished by the next call, after `close_complete` perhaps;
        one of twice as many rows at once.
      clock: current time, seconds of the epoch.
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
        beside: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._folder = ArchiveFolder(directory)
        self._schema = schema
        #: Schema of the open part.
        self._open = schema
        self._prefix = f"part-{shard:03d}-"
        self._most_rows = rows
        self._most_seconds = seconds
        self._deferred = deferred
        self._beside = beside
        self._clock = clock
        self._number = 0
        #: Number to hidden file of parts that may not be visible.
        self._finished: dict[int, str] = {}
        self._rows = 0
        #: Arrival of the oldest row.
        self._since = 0.0
        #: Whether the open part is complete, and a thread may close it.
        self._complete = False
        self._part: UnfinishedPart | None = None
        #: Committed rows that are not in `_part` yet, encoded by `rows_to_bytes`.
        self._unwritten: list[bytes] = []

    @property
    def waiting(self) -> bool:
        """Return whether there are rows in no visible part."""
        return self._rows > 0 or bool(self._finished)

    def restore(self, deltas: Sequence[bytes]) -> Effects:
        """Restore the rows; remove parts and hidden files that the state does not record."""
        for data in deltas:
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

    def take(self, batch: pa.RecordBatch, encoded: Sequence[bytes] | None = None) -> Effects:
        """Commit the rows, and finish a part if it is full.

        Args:
          batch: the rows.
          encoded: the same in parts by `rows_to_bytes`, if they are encoded already.
        """
        if not batch.num_rows:
            return Effects()
        rolled = Effects()
        if self._complete or not batch.schema.equals(self._open):
            rolled = self.finish()
            self._open = batch.schema.remove_metadata()
        now = self._clock()
        with self._one_line_errors():
            self._unfinished().write(batch)
        self._count(batch.num_rows, now)
        if self._rows >= self._most_rows * (2 if self._beside else 1):
            last = self._roll()
            return replace(last, afterwards=[*rolled.afterwards, *last.afterwards])
        parts = [rows_to_bytes(batch)] if encoded is None else encoded
        deltas = [Delta(_ROWS_FORM.pack(_ROWS, now) + part) for part in parts]
        return replace(rolled, deltas=[*rolled.deltas, *deltas])

    def close_complete(self) -> None:
        """Close the file of a complete part, which takes long, in any thread beside other calls."""
        part = self._part
        # Nobody appends to it, and it is here only with all its rows.
        if part is not None and self._complete:
            # Who finishes the part meets an error again.
            with suppress(OSError, pa.ArrowException):
                part.finish()

    def tick(self, now: float) -> Effects:
        """Finish the part if its oldest row is old enough; with `beside` by two calls."""
        self._finished = {n: h for n, h in self._finished.items() if self._folder.hides(h)}
        # A clock set back must not extend the wait.
        self._since = min(self._since, now)
        due = self._rows >= self._most_rows or now - self._since >= self._most_seconds
        if not self._rows or not due:
            return Effects()
        if self._beside and not self._complete:
            # The next call need not wait for its file to be closed.
            self._complete = True
            return Effects()
        return self._roll()

    def finish(self) -> Effects:
        """Finish the open part."""
        return self._roll() if self._rows else Effects()

    def _count(self, rows: int, came: float) -> None:
        self._since = min(self._since, came) if self._rows else came
        self._rows += rows
        self._complete = self._complete or (self._beside and self._rows >= self._most_rows)

    def _checked(self, rows: bytes) -> int:
        """Add committed rows to those to write again; return their number."""
        batch = rows_from_bytes(rows)
        described = [field for field in self._schema if field.name not in KEPT]
        kept = [field for field in batch.schema if field.name in KEPT]
        self._open = pa.schema([*described, *kept])
        try:
            # Rows of earlier versions lack some columns.
            completed(batch, self._open)
        except (KeyError, pa.ArrowException):
            raise FraudError(
                f"{self._directory}: the stream's state has rows of another version; {_ANEW}",
                Code.STATE_UNREADABLE,
            ) from None
        self._unwritten.append(rows)
        return int(batch.num_rows)

    def _unfinished(self) -> UnfinishedPart:
        if self._part is None:
            part = self._folder.begin(self._prefix, self._open, beside=self._beside)
            try:
                for rows in self._unwritten:
                    part.write(completed(rows_from_bytes(rows), self._open))
            except BaseException:
                part.discard()
                raise
            self._unwritten = []
            # Last: `close_complete`, in another thread, may close it from here on.
            self._part = part
        return self._part

    def _roll(self) -> Effects:
        number = self._number
        with self._one_line_errors():
            hidden = self._folder.hide(self._unfinished())
            if not self._deferred:
                self._folder.publish(hidden, self._prefix, number)
        self._part = None
        self._number += 1
        self._rows, self._complete = 0, False
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
        except (OSError, pa.ArrowException) as error:
            # The disk may be full, but the rows are committed.
            if self._part is not None:
                self._part.discard()
            raise FraudError(
                f"{self._directory}: cannot be written ({reason_of(error)}); "
                "correct that and start the stream again, nothing is lost",
                Code.OUTPUT_UNWRITABLE,
            ) from None


_ANEW = "start again with another --out"
