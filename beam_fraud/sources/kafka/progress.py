"""Lag and idleness of the readers of this process."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic

from beam_fraud.sources.kafka.position import Reading


class Idleness:
    """Idle time of a stream, over all readers of this process."""

    def __init__(self) -> None:
        self._since: float | None = None

    def end(self) -> None:
        """Record a message, or a failed read."""
        self._since = None

    def seconds(self) -> float:
        """Record an empty poll; return the idle seconds."""
        now = monotonic()
        if self._since is None:
            self._since = now
        return now - self._since


_streams: dict[tuple[object, ...], Idleness] = {}


def idleness_of(reading: Reading) -> Idleness:
    """Return the idleness of the stream of `reading`."""
    stream = (reading.settings, reading.topics, reading.group)
    return _streams.setdefault(stream, Idleness())


_lags: dict[str, tuple[int, int]] = {}


def note_lags(lags: Mapping[str, tuple[int, int]]) -> None:
    """Record the lags of a reader's partitions."""
    _lags.update(lags)


def lags() -> dict[str, tuple[int, int]]:
    """ "topic:partition" to the offset of the next message and the end of the partition.

    From the last bundles of this process; the difference is the number of pending messages.
    """
    return dict(_lags)
