"""Follow topics, so that transactions and labels seen elsewhere count."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from beam_fraud.errors import FraudError
from beam_fraud.monitoring.waiting import Wait
from beam_fraud.serve.freshness import Freshness
from beam_fraud.serve.group_commit import Block
from beam_fraud.sources.raw import APPENDED

if TYPE_CHECKING:
    # Its client is an extra.
    from beam_fraud.sources.kafka.feed import Feed

_LOG = logging.getLogger(__name__)
#: Messages per block: a request waits at most for one of them.
BLOCK_MESSAGES = 500
#: Blocks that may wait for the engine.
_BLOCKS_AHEAD = 4
#: Seconds to wait for the first message, and between two attempts to connect.
_WAIT, _PAUSE = 0.2, 2.0


class Follower:
    """Reads topics in a thread of its own and hands blocks to the engine.

    Positions are committed with the state, then to the group.

    Args:
      connect: connects to the broker, at the positions of the state; the thread repeats it while
        the broker is away.
      take: takes a block, in any thread.
      freshness: learns how far the topics were read.
    """

    def __init__(
        self, connect: Callable[[], Feed], take: Callable[[Block], None], freshness: Freshness
    ) -> None:
        self._connect = connect
        self._feed: Feed | None = None
        self._take = take
        self._freshness = freshness
        self._room = threading.BoundedSemaphore(_BLOCKS_AHEAD)
        self._stopping = threading.Event()
        #: Positions of the last block that is durable.
        self._durable: Mapping[str, int] = {}
        #: The failure that ended it, or None.
        self.failure: FraudError | None = None
        self._wait = Wait(_LOG)
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def connect(self) -> None:
        """Connect now, for a new state, where a wrong option is an error of the call.

        Raises:
          FraudError: no broker answers, or a topic is not there.
        """
        self._feed = self._connect()

    def start(self) -> None:
        """Start to read."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading; blocks that were handed over stay valid."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def close(self) -> None:
        """Disconnect, after the blocks that were handed over are durable."""
        if self._feed is not None:
            self._feed.commit(self._durable)
            self._feed.close()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                feed = self._feed or self._connected()
                if feed is not None:
                    self._read(feed)
        except FraudError as error:
            self.failure = error
            _LOG.error("%s; answers go on without the topic", error)

    def _connected(self) -> Feed | None:
        try:
            self._feed = self._connect()
        except FraudError as error:
            self._wait.goes_on(f"{error}; answers go on without the topic")
            self._stopping.wait(_PAUSE)
            return None
        self._wait.over("the broker is back")
        return self._feed

    def _read(self, feed: Feed) -> None:
        feed.commit(self._durable)
        chunk = feed.next(_WAIT)
        if chunk is None:
            if feed.at_rest():
                self._freshness.read(time.time())
            return
        while not self._room.acquire(timeout=_WAIT):
            if self._stopping.is_set():
                return
        newest = pc.max(chunk.batch.column(APPENDED)).as_py() / 1000
        positions = feed.positions

        def done() -> None:
            self._room.release()
            self._freshness.read(newest)
            # Not to the group: that can wait for the poll of the other thread.
            self._durable = positions

        self._take(Block(chunk.batch, positions, done))
