"""Keep feeds between two readers: some runners create a reader for every bundle."""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from threading import Lock
from time import monotonic

from beam_fraud.sources.kafka.feed import Feed
from beam_fraud.sources.kafka.position import Reading

#: Seconds after which an unused feed is closed.
IDLE_SECONDS = 60.0


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
