"""Latency from a transaction in the topic to its results."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Moments:
    """When each of n transactions was seen, in any order, possibly repeatedly."""

    #: int64[n]: the transactions' ids.
    ids: npt.NDArray[np.int64]
    #: int64[n]: milliseconds since 1970.
    at: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    def first(self) -> Moments:
        """Return the first time of each transaction, by id."""
        order = np.lexsort((self.at, self.ids))
        ids, at = self.ids[order], self.at[order]
        new = np.append(True, ids[1:] != ids[:-1]) if len(ids) else np.zeros(0, dtype=bool)
        return Moments(ids[new], at[new])

    def since(self, moment: int) -> Moments:
        """Return the moments from a time on."""
        later = self.at >= moment
        return Moments(self.ids[later], self.at[later])


@dataclass(frozen=True)
class Latency:
    """Milliseconds from one event to another."""

    #: From what to what, and under which load.
    name: str
    #: How many transactions both were seen of.
    rows: int
    #: How many the end was never seen of.
    missing: int
    #: Half of them took at most so long.
    p50: float
    #: 99 % took at most so long.
    p99: float
    #: 99.9 % took at most so long.
    p99_9: float
    #: All took at most so long.
    longest: float


def delays(start: Moments, end: Moments) -> npt.NDArray[np.float64]:
    """Join by id.

    Args:
      start: n moments; of an id that occurs twice the first one counts.
      end: m moments, likewise.

    Returns:
      float64[k]: milliseconds between them, for each id that is in both; in the order of the ids.
    """
    started, ended = start.first(), end.first()
    if not len(ended):
        return np.zeros(0)
    places = np.minimum(np.searchsorted(ended.ids, started.ids), len(ended) - 1)
    matches = ended.ids[places] == started.ids
    durations: npt.NDArray[np.float64] = (ended.at[places] - started.at)[matches].astype(np.float64)
    return durations


def latency(name: str, start: Moments, end: Moments, *, expected: int | None = None) -> Latency:
    """Summarise the milliseconds between two events.

    Args:
      name: of what.
      start: when it began.
      end: when it had come.
      expected: how many should be in both; all of `start` if absent.
    """
    durations = delays(start, end)
    missing = (len(start.first()) if expected is None else expected) - len(durations)
    if not len(durations):
        return Latency(name, 0, missing, *[float("nan")] * 4)
    p50, p99, p99_9 = (quantile(durations, share) for share in (0.5, 0.99, 0.999))
    return Latency(name, len(durations), missing, p50, p99, p99_9, float(durations.max()))


def quantile(values: npt.NDArray[np.float64], share: float) -> float:
    """Return the least of n > 0 values that covers a share of them."""
    return float(np.quantile(values, share, method="inverted_cdf"))
