"""The figures of the last half hour of a stream or server, sampled while it runs."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import msgspec

from beam_fraud.storage.atomic import write_file
from beam_fraud.wording import reason_of

_LOG = logging.getLogger(__name__)

#: File of the last figures, in the directory of a monitor.
LIVE = "live.json"
#: Seconds between two samples, and samples that are kept: half an hour.
SAMPLE_SECONDS, _SAMPLES = 10.0, 180


class FiguresFile:
    """A file of figures that is written again and again; that it cannot be is said once.

    For one thread.

    Args:
      path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._unwritten = path, False

    def write(self, data: bytes) -> None:
        """Replace its contents."""
        try:
            write_file(self._path, data, durable=False)
        except OSError as error:
            if not self._unwritten:
                _LOG.warning("%s: figures are not written (%s)", self._path, reason_of(error))
            self._unwritten = True
        else:
            self._unwritten = False


class Point(msgspec.Struct, frozen=True, array_like=True):
    """The figures of the time between two samples."""

    #: End of it, seconds of the epoch.
    at: float
    rows_per_second: float
    #: Share of flagged rows; None without rows.
    flagged: float | None
    #: Latency in seconds: upper bounds of the bins that hold the median and the 99th percentile.
    p50: float | None
    p99: float | None


class Changed(msgspec.Struct, frozen=True):
    """A feature, or the score, against the training rows."""

    name: str
    psi: float
    #: `stable`, `moderate` or `large`.
    state: str
    weight: float


class DriftFigures(msgspec.Struct, frozen=True):
    """Figures of the drift monitor."""

    rows: int
    #: First and last day, and days that were judged.
    first: str
    last: str
    judged: int
    #: Alarms that go on: what, and what to do.
    alarms: list[tuple[str, str]]
    #: The largest changes.
    changed: list[Changed]


class ExpectedWeek(msgspec.Struct, frozen=True, array_like=True):
    """Expected precision and recall of a week, or of its part so far."""

    #: First day, ISO 8601, and days.
    since: str
    days: int
    flagged: int
    #: Value, and its 95 % interval; None if nothing tells.
    precision: tuple[float, float, float] | None
    recall: tuple[float, float, float] | None


class QualityFigures(msgspec.Struct, frozen=True):
    """Expected quality by week, and whether it can be relied on."""

    #: The last weeks.
    weeks: list[ExpectedWeek]
    #: Whether drift puts them in doubt, and why, or why not.
    doubted: bool
    why: str


class WatchedFigures(msgspec.Struct, frozen=True):
    """The figures of a monitor: drift and expected quality."""

    drift: DriftFigures
    #: None if scores are not counted by decision.
    quality: QualityFigures | None = None


class LiveFigures(msgspec.Struct, frozen=True):
    """The figures of a live page."""

    #: `stream` or `server`.
    kind: str
    model_id: str
    #: Seconds of the epoch: begin of the process, and the last sample.
    since: float
    at: float
    points: list[Point]
    #: Rows since the begin by what became of them.
    outcomes: dict[str, int]
    #: None without `--monitor`, or before any report.
    drift: DriftFigures | None
    #: Whether drift is watched.
    monitors: bool
    #: Expected quality; None as for `drift`, or if scores are not counted by decision.
    expected: QualityFigures | None = None


@dataclass(frozen=True)
class Totals:
    """Counts of a process since its start."""

    #: Seconds of the epoch.
    at: float
    model_id: str
    outcomes: dict[str, int]
    scored: int
    flagged: int
    #: Rows or requests by latency: one more than `bounds`.
    latencies: Sequence[int]
    #: Upper bounds of the bins, seconds.
    bounds: Sequence[float]


class Sampler:
    """Keeps the figures between samples of the last half hour; for one thread."""

    def __init__(self, kind: str, since: float) -> None:
        self._kind, self._since = kind, since
        self._last: Totals | None = None
        self._points = deque[Point](maxlen=_SAMPLES)

    def sample(self, now: Totals, watched: WatchedFigures | None, *, monitors: bool) -> LiveFigures:
        """Add a sample; return what a page shows."""
        before = self._last
        if before is not None and now.at > before.at:
            self._points.append(_point(before, now))
        self._last = now
        return LiveFigures(
            self._kind,
            now.model_id,
            self._since,
            now.at,
            list(self._points),
            now.outcomes,
            None if watched is None else watched.drift,
            monitors,
            None if watched is None else watched.quality,
        )


def _point(before: Totals, now: Totals) -> Point:
    rows, flagged = now.scored - before.scored, now.flagged - before.flagged
    # A worker that was started again counts from 0.
    rows, flagged = max(rows, 0), max(flagged, 0)
    pairs = zip(now.latencies, before.latencies, strict=True)
    counts = [max(one - other, 0) for one, other in pairs]
    return Point(
        now.at,
        rows / (now.at - before.at),
        min(flagged / rows, 1.0) if rows else None,
        _quantile(counts, now.bounds, 0.5),
        _quantile(counts, now.bounds, 0.99),
    )


def _quantile(counts: Sequence[int], bounds: Sequence[float], share: float) -> float | None:
    """Return the upper bound of the bin of a quantile; None without rows or above all bounds."""
    ends = list(accumulate(counts))
    if not ends or not ends[-1]:
        return None
    place = bisect_left(ends, share * ends[-1])
    return bounds[place] if place < len(bounds) else None
