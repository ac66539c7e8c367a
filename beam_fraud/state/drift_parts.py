"""Add up the counts of a stream's workers, and write them to files, each row once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from beam_fraud.errors import FraudError
from beam_fraud.monitoring.drift import counts
from beam_fraud.monitoring.drift.counts import ModelCounts
from beam_fraud.state.drift import EVERY_DAY, refusing_damage
from beam_fraud.state.shard import Delta, Effects
from beam_fraud.storage import atomic
from beam_fraud.storage.store import store_at
from beam_fraud.wording import reason_of

_LOG = logging.getLogger(__name__)
#: Counts of rows as pieces (`monitoring.drift.counts`): a layout, and rows by its bins.
PIECES = pa.schema([("layout", pa.binary()), ("rows", pa.binary())])
#: Form of a delta: the number of the open part. Pieces have others.
_NUMBER = b"N"
#: Seconds between two writes of the open part, and its size from which it is finished.
_WRITE_SECONDS, _PART_BYTES = 30.0, 1 << 20
#: Pieces in memory that are merged to one.
_PIECES_TOGETHER = 256


def pieces_of(counted: Sequence[ModelCounts]) -> Iterator[pa.RecordBatch]:
    """Yield counts as a batch of `PIECES`, if they are of any rows."""
    some = [one for one in counted if len(one.summary.days)]
    if some:
        layouts = [counts.layout_piece(one.key, one.model_id, one.summary.layout) for one in some]
        rows = [counts.rows_piece(one.key, one.summary) for one in some]
        yield pa.RecordBatch.from_pydict({"layout": layouts, "rows": rows}, PIECES)


class DriftParts:
    """Adds up counts of rows, and writes them to numbered files; it emits no rows.

    For runners whose state the launcher cannot read. The open part, the last file, has all counts
    of the state, and is written again as they change. Once it is large, it is finished: the state
    drops its counts, and another part begins. The counts of all files add up to those of all rows,
    so a late row is in whichever part is open.

    After a failure the state is that of the last commit, the later rows come again, and the open
    part is replaced; `restore` removes parts that the state does not know. One shard has all
    counts: among several, rows that come again might go to others. A failed write is logged and
    repeated: it ends no stream.

    Args:
      directory: directory or URL of the files; created if it is missing.
      clock: current time, seconds of the epoch.
    """

    def __init__(self, directory: Path | str, clock: Callable[[], float] = time.time) -> None:
        self._directory, self._store = directory, store_at(directory)
        self._clock = clock
        self._number = 0
        #: Pieces of the open part; a dictionary has each layout once, in their order.
        self._layouts, self._rows = dict[bytes, None](), list[bytes]()
        #: Whether the open part differs from its file, and whether later files are removed.
        self._changed, self._removed = False, False
        self._written_at = 0.0

    @property
    def needed_from(self) -> int:
        """No delta may be dropped."""
        return -(1 << 63)

    @property
    def waiting(self) -> bool:
        """Return whether files differ from the state."""
        return self._changed or not self._removed

    def restore(self, deltas: Sequence[bytes]) -> Effects:
        """Restore the open part; remove later ones, whose rows come again.

        Raises:
          FraudError: the state is damaged.
        """
        with refusing_damage():
            for delta in deltas:
                if delta[:1] == _NUMBER:
                    self._number = int(delta[1:])
                elif counts.layouts_in([delta]):
                    self._layouts[delta] = None
                else:
                    self._rows.append(delta)
        self._merge()
        self._changed = bool(self._rows)
        self._saved(self._remove_later)
        return Effects()

    def take(self, batch: pa.RecordBatch) -> Effects:
        """Add counts, rows of `PIECES`."""
        deltas = list[Delta]()
        layouts, rows = batch.column("layout").to_pylist(), batch.column("rows").to_pylist()
        for layout, piece in zip(layouts, rows, strict=True):
            if layout not in self._layouts:
                self._layouts[layout] = None
                deltas.append(Delta(layout))
            self._rows.append(piece)
            # The host merges what is older than `FOREVER`.
            deltas.append(Delta(piece, 0))
        self._changed = self._changed or bool(deltas)
        if len(self._rows) >= _PIECES_TOGETHER:
            self._merge()
        return Effects(deltas=deltas)

    def tick(self, now: float) -> Effects:
        """Write the open part, if it was not written for some time."""
        # A clock set back must not extend the wait.
        self._written_at = min(self._written_at, now)
        due = now - self._written_at >= _WRITE_SECONDS
        return self._write(now) if self.waiting and due else Effects()

    def finish(self) -> Effects:
        """Write the open part."""
        return self._write(self._clock()) if self.waiting else Effects()

    def merge(self, deltas: Sequence[bytes]) -> bytes:
        """Add counts."""
        with refusing_damage():
            return counts.merged(deltas, EVERY_DAY)

    def _merge(self) -> None:
        if len(self._rows) > 1:
            self._rows = [self.merge(self._rows)]

    def _write(self, now: float) -> Effects:
        self._written_at = now
        self._merge()
        with refusing_damage():
            data = counts.encoded([*self._layouts, *self._rows])
        if not self._saved(lambda: self._save(data)) or len(data) < _PART_BYTES:
            return Effects()
        self._number += 1
        self._layouts, self._rows = {}, []
        return Effects(deltas=[Delta(_NUMBER + b"%d" % self._number)], replaces=True)

    def _save(self, data: bytes) -> None:
        if not self._removed:
            self._remove_later()
        if self._changed:
            self._store.write(counts.part_file(self._number), data)
            self._changed = False

    def _remove_later(self) -> None:
        self._store.make()
        # Without rows the open part has no file.
        first = counts.part_file(self._number + bool(self._rows))
        later = [name for name in self._store.list(counts.PART_FILES) if name >= first]
        self._store.remove([*later, *self._store.list(f".counts-*{atomic.ENDING}")])
        self._removed = True

    def _saved(self, save: Callable[[], None]) -> bool:
        try:
            save()
        except (OSError, FraudError) as error:
            reason = reason_of(error) if isinstance(error, OSError) else error
            _LOG.warning(
                "%s: the counts of --monitor cannot be written (%s); they stay in the state, and "
                "are written once that is corrected",
                self._directory,
                reason,
            )
            return False
        return True
