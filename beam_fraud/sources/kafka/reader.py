"""Read a sub-source in the bundles of a runner; its feed stays open between two readers."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from time import monotonic, time

import pyarrow as pa
from apache_beam.io.unbounded_source import UnboundedReader
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp

from beam_fraud.sources.kafka.batches import Chunk
from beam_fraud.sources.kafka.feed import Feed
from beam_fraud.sources.kafka.position import KafkaMark, Reading, idleness_of, note_lags
from beam_fraud.sources.raw import PAYLOAD
from beam_fraud.storage.checkpoint import LocalCheckpoint

#: Seconds after which an unused feed is closed.
IDLE_SECONDS = 60.0
#: Type: newest event time of payloads (microseconds), None if none can be read.
NewestEvent = Callable[[Sequence[bytes]], int | None]
#: Seconds that a bundle waits for its first message.
WAIT_SECONDS = 0.1
#: Maximum seconds of a bundle after its first message, and maximum wait for the next message within
#: them: the end of a bundle costs as much as some dozen messages.
_BUNDLE_SECONDS, _NEXT_SECONDS = 0.1, 0.005
#: Rows of a batch from which a backlog is assumed.
_MANY = 1_000
#: Seconds between two checks for the stop file.
_LOOK_SECONDS = 0.05
#: Seconds between two reads of event times: a watermark need not be newer.
_ASK_SECONDS = 0.1
#: Seconds between two records of the lag.
_NOTE_SECONDS = 0.2


class FeedPool:
    """Keep feeds of closed readers connected, with their read-ahead messages."""

    def __init__(self) -> None:
        self._parked: dict[Reading, tuple[Feed, float]] = {}
        self._lock = Lock()

    def take(self, reading: Reading, positions: Mapping[str, int] | None) -> Feed | None:
        """Return the feed parked at these positions; close one parked at others."""
        with self._lock:
            parked = self._parked.pop(reading, None)
        self._close_idle()
        if parked is None:
            return None
        feed = parked[0]
        if not feed.closed and positions is not None and feed.positions == positions:
            return feed
        feed.close()
        return None

    def park(self, feed: Feed) -> None:
        """Park a feed for the next reader."""
        with self._lock:
            before = self._parked.pop(feed.reading, None)
            self._parked[feed.reading] = (feed, monotonic())
        if before is not None and before[0] is not feed:
            before[0].close()
        self._close_idle()

    def close_all(self) -> None:
        """Close every feed after its last commits."""
        self._close_idle(0.0)

    def _close_idle(self, seconds: float = IDLE_SECONDS) -> None:
        with self._lock:
            oldest = monotonic() - seconds
            idle = [key for key, (_, since) in self._parked.items() if since <= oldest]
            feeds = [self._parked.pop(key)[0] for key in idle]
        for feed in feeds:
            feed.close()


#: The pool of this process.
POOL = FeedPool()
atexit.register(POOL.close_all)


class KafkaReader(UnboundedReader):
    """Read the chunks of a feed."""

    def __init__(
        self,
        feed: Feed,
        *,
        newest_event: NewestEvent | None,
        lateness: int,
        stop_file: str | None,
        until_idle: float | None,
        checkpoint: Path | None,
    ) -> None:
        """Read from a feed; see `KafkaSource` for the rest.

        Raises:
          FraudError: the checkpoint cannot be used.
        """
        self._feed = feed
        self._newest_event, self._lateness = newest_event, lateness
        self._stop_file = None if stop_file is None else Path(stop_file)
        self._until_idle, self._idleness = until_idle, idleness_of(feed.reading)
        self._checkpoint = None if checkpoint is None else LocalCheckpoint.at(checkpoint)
        self._chunk: Chunk | None = None
        self._timestamp = MIN_TIMESTAMP
        #: End of this bundle's wait; None before its first message.
        self._until: float | None = None
        self._ended = False
        self._look_next = self._note_next = self._ask_next = 0.0
        self._committed: dict[str, int] = {}

    def start(self) -> bool:
        return self.advance()

    def advance(self) -> bool:
        """Read the next batch; False without one, or if the stream has ended.

        Raises:
          FraudError: reading fails, or positions could not be committed.
        """
        if self._checkpoint is not None:
            # Beam only logs errors of finalisation, so raise them here.
            self._checkpoint.refuse_failed()
        if self._ended or self._stopped():
            self._ended = True
            return False
        if self._has_enough():
            # A caller that continues without a new bundle gets the available messages.
            self._until = None
            return False
        self._chunk = self._feed.next(self._patience())
        if self._chunk is None:
            self._ended = self._idle()
            return False
        self._idleness.end()
        if self._until is None:
            self._until = monotonic() + _BUNDLE_SECONDS
        self._timestamp = self._event_time(self._chunk)
        return True

    def get_current(self) -> pa.RecordBatch:
        """Return a raw batch (`sources.raw`)."""
        assert self._chunk is not None
        return self._chunk.batch

    def get_current_timestamp(self) -> Timestamp:
        return self._timestamp

    def get_watermark(self) -> Timestamp:
        """Return the newest event time less the lateness; the end of time after the stream."""
        if self._ended:
            return MAX_TIMESTAMP
        newest = self._feed.newest
        if newest is None:
            return MIN_TIMESTAMP
        return Timestamp(micros=newest - self._lateness)

    def get_checkpoint_mark(self) -> KafkaMark:
        """Return the positions after the last chunk; called at the end of every bundle."""
        self._until = None
        positions, last = self._feed.positions, self._ended
        if last or monotonic() >= self._note_next:
            self._note_next = monotonic() + _NOTE_SECONDS
            note_lags(self._feed.lag())
        return KafkaMark(positions, lambda: self._finish(positions, last=last))

    def close(self) -> None:
        """Park the feed for the next reader."""
        POOL.park(self._feed)

    def _finish(self, positions: dict[str, int], *, last: bool) -> None:
        if self._checkpoint is not None:
            changed = {
                name: at for name, at in positions.items() if self._committed.get(name) != at
            }
            self._checkpoint.commit({name: str(at) for name, at in changed.items()})
            self._committed |= changed
        self._feed.commit(positions)
        if last:
            # No reader follows; closing waits for the commit.
            self._feed.close()

    def _has_enough(self) -> bool:
        """Return whether to end the bundle, so that its results are written.

        Not during a backlog: then the runner ends the bundle.
        """
        if self._until is None or self._chunk is None or monotonic() < self._until:
            return False
        return len(self._chunk.batch) < _MANY

    def _patience(self) -> float:
        """Return the seconds to wait for the next message."""
        if self._until is None:
            return WAIT_SECONDS
        return min(max(self._until - monotonic(), 0.0), _NEXT_SECONDS)

    def _stopped(self) -> bool:
        if self._stop_file is None or monotonic() < self._look_next:
            return False
        self._look_next = monotonic() + _LOOK_SECONDS
        return self._stop_file.exists()

    def _idle(self) -> bool:
        if self._until_idle is None:
            return False
        if self._idleness.seconds() < self._until_idle:
            return False
        if self._feed.at_rest():
            return True
        self._idleness.end()
        return False

    def _event_time(self, chunk: Chunk) -> Timestamp:
        transactions = chunk.content == "transactions"
        if self._newest_event is not None and transactions and monotonic() >= self._ask_next:
            self._ask_next = monotonic() + _ASK_SECONDS
            payload = chunk.batch.column(PAYLOAD)
            # Parse the first and the last message alone.
            event_time = self._newest_event([payload[0].as_py(), payload[-1].as_py()])
            if event_time is not None:
                # A time in the future must not make everything else late.
                event_time = min(event_time, int(time() * 1_000_000))
                self._feed.newest = max(event_time, self._feed.newest or event_time)
        newest = self._feed.newest
        return MIN_TIMESTAMP if newest is None else Timestamp(micros=newest)
