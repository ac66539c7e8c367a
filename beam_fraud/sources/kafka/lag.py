"""How far the readers of this process are behind, for whoever shows it."""

from __future__ import annotations

from collections.abc import Mapping

_lags: dict[str, tuple[int, int]] = {}


def note_lags(found: Mapping[str, tuple[int, int]]) -> None:
    """Take what a reader knows of its partitions."""
    _lags.update(found)


def lags() -> dict[str, tuple[int, int]]:
    """ "topic:partition" to the offset of the next message and the end of the partition.

    As of the last bundles of this process; the difference is the number of messages that wait.
    """
    return dict(_lags)
