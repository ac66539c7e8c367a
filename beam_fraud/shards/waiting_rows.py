"""Rows of one batch that wait for those of other sources, in the order of their event times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.event_time import event_micros
from beam_fraud.sources.raw import Origin, origin_of, with_origin

#: Rows that go on in one batch.
_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True)
class WaitingRows:
    """At least one row of one source, sorted by event time, then as they came."""

    #: The rows, with their origin.
    batch: pa.RecordBatch
    #: int64[n]: event times, microseconds, ascending.
    times: npt.NDArray[np.int64]
    #: When they came, seconds of the epoch.
    came: float

    @classmethod
    def of(cls, batch: pa.RecordBatch, came: float) -> WaitingRows:
        """The rows of a batch in order."""
        times = event_micros(batch)
        if (times[1:] < times[:-1]).any():
            order = np.argsort(times, kind="stable")
            batch, times = batch.take(pa.array(order)), times[order]
        return cls(batch, times, came)

    @property
    def newest(self) -> int:
        """The latest event time, microseconds."""
        return int(self.times[-1])

    def before(self, moment: int) -> WaitingRows | None:
        """The rows with an event time before `moment`, None if there are none."""
        return self._sliced(0, int(np.searchsorted(self.times, moment)))

    def since(self, moment: int) -> WaitingRows | None:
        """The other rows."""
        return self._sliced(int(np.searchsorted(self.times, moment)), len(self.times))

    def _sliced(self, start: int, end: int) -> WaitingRows | None:
        if end - start == len(self.times):
            return self
        if start == end:
            return None
        return replace(self, batch=self.batch[start:end], times=self.times[start:end])


def merged(blocks: Sequence[WaitingRows]) -> Iterator[pa.RecordBatch]:
    """All rows in the order of event time, then source, at most 10,000 in a batch.

    Rows of one time and source stay in the order of `blocks`, in which they came.
    The origin of a batch is that of its last row, and `appended` the oldest that any row's has.
    """
    if not blocks:
        return
    origins = [origin_of(block.batch) for block in blocks]
    rows = pa.concat_batches([block.batch.replace_schema_metadata(None) for block in blocks])
    block_of_row = np.repeat(np.arange(len(blocks)), [len(block.times) for block in blocks])
    if len(blocks) > 1:
        ranks = np.unique([origin.source for origin in origins], return_inverse=True)[1]
        times = np.concatenate([block.times for block in blocks])
        order = np.lexsort((ranks[block_of_row], times))
        rows, block_of_row = rows.take(pa.array(order)), block_of_row[order]
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        of_part = [origins[block] for block in np.unique(block_of_row[part])]
        origin = replace(origins[block_of_row[part][-1]], appended=_oldest(of_part))
        yield rows[part].replace_schema_metadata(with_origin(rows.schema, origin).metadata)


def _oldest(origins: Sequence[Origin]) -> int | None:
    return min((o.appended for o in origins if o.appended is not None), default=None)
