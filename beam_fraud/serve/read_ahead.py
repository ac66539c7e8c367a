"""Read earlier transactions in a thread, while rows are answered."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Empty, Full, Queue

import pyarrow as pa

from beam_fraud.errors import FraudError
from beam_fraud.state.velocity import History

#: Rows of a part, which take a few milliseconds to add to windows; and parts that wait.
_ROWS, _PARTS = 5_000, 8
#: Seconds after which the thread looks whether anybody still reads.
_LOOK_SECONDS = 0.5
#: What the thread puts last.
_END = None


def read_ahead(history: History) -> Iterator[pa.RecordBatch | None]:
    """Yield the batches of a history in small parts, each followed by None.

    None says that more may come: the caller goes on with something else, and asks again.

    Args:
      history: reads earlier transactions, in a thread here.

    Raises:
      FraudError: they cannot be read.
    """
    parts: Queue[pa.RecordBatch | FraudError | None] = Queue(_PARTS)
    end = threading.Event()
    reading = (history, parts, end)
    threading.Thread(target=_read, args=reading, name="history", daemon=True).start()
    try:
        while True:
            try:
                part = parts.get_nowait()
            except Empty:
                yield None
                continue
            if part is _END:
                return
            if isinstance(part, FraudError):
                raise part
            yield part
            yield None
    finally:
        end.set()


def _read(
    history: History, parts: Queue[pa.RecordBatch | FraudError | None], end: threading.Event
) -> None:
    last: FraudError | None = _END
    try:
        for batch in history():
            for first in range(0, len(batch), _ROWS):
                if not _put(batch.slice(first, _ROWS), parts, end):
                    return
    except FraudError as error:
        last = error
    _put(last, parts, end)


def _put(
    part: pa.RecordBatch | FraudError | None,
    parts: Queue[pa.RecordBatch | FraudError | None],
    end: threading.Event,
) -> bool:
    """Put a part where the reader takes it; return False if nobody reads any more."""
    while not end.is_set():
        try:
            parts.put(part, timeout=_LOOK_SECONDS)
        except Full:
            continue
        return True
    return False
