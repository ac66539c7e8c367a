"""How far the readers of this process are behind, for whoever shows it."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic

from beam_fraud.sources.kafka.position import Reading


class Idleness:
    """Since when the readers of a stream have polled in vain."""

    def __init__(self) -> None:
        self._since: float | None = None

    def end(self) -> None:
        """Something has come, or may be there that could not be read."""
        self._since = None

    def seconds(self) -> float:
        """Nothing has come to a reader that has polled: how long it has been so."""
        now = monotonic()
        if self._since is None:
            self._since = now
        return now - self._since


_streams: dict[tuple[object, ...], Idleness] = {}


def idleness_of(reading: Reading) -> Idleness:
    """That of the stream which `reading` is a share of."""
    stream = (reading.settings, reading.topics, reading.group)
    return _streams.setdefault(stream, Idleness())


_lags: dict[str, tuple[int, int]] = {}


def note_lags(found: Mapping[str, tuple[int, int]]) -> None:
    """Take what a reader knows of its partitions."""
    _lags.update(found)


def lags() -> dict[str, tuple[int, int]]:
    """ "topic:partition" to the offset of the next message and the end of the partition.

    As of the last bundles of this process; the difference is the number of messages that wait.
    """
    return dict(_lags)
