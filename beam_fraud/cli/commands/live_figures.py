"""Sample the figures of a stream or server for its live page, in a thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from beam_fraud.cli.commands.live_monitor import ReadReport
from beam_fraud.monitoring import counters as names
from beam_fraud.monitoring.latency import BOUNDS
from beam_fraud.monitoring.live_figures import (
    LIVE,
    SAMPLE_SECONDS,
    Changed,
    DriftFigures,
    ExpectedWeek,
    FiguresFile,
    LiveFigures,
    QualityFigures,
    Sampler,
    Totals,
    WatchedFigures,
)
from beam_fraud.monitoring.periodic_work import periodically
from beam_fraud.monitoring.snapshot import Snapshot
from beam_fraud.storage.atomic import make_directory

if TYPE_CHECKING:
    from beam_fraud.evaluation.monitor_report import MonitorReport
    from beam_fraud.evaluation.quality.quality import Quality
    from beam_fraud.evaluation.traffic import Estimate
    from beam_fraud.monitoring.drift.report import DriftReport

#: Features, and weeks of expected quality, of the page.
_SHOWN, _SHOWN_WEEKS = 8, 5


@dataclass(frozen=True)
class Sampled:
    """The sources of the figures of a live page."""

    #: `stream` or `server`.
    kind: str
    totals: Callable[[], Totals]
    report: ReadReport
    #: Whether drift is watched.
    monitors: bool
    #: Directory of the file that the analysts' pages read; None for none.
    directory: Path | None


@contextmanager
def sampling(sampled: Sampled) -> Iterator[Callable[[], LiveFigures | None]]:
    """Sample while the body runs.

    Yields:
      A function that returns the last figures; None before any.

    Raises:
      FraudError: the directory cannot be made.
    """
    file = None
    if sampled.directory is not None:
        make_directory(sampled.directory)
        file = FiguresFile(sampled.directory / LIVE)
    sampler = Sampler(sampled.kind, time.time())
    last: list[LiveFigures] = []

    def sample() -> None:
        report = sampled.report()
        watched = None if report is None else watched_figures(report)
        last[:] = [sampler.sample(sampled.totals(), watched, monitors=sampled.monitors)]
        if file is not None:
            file.write(msgspec.json.encode(last[0]))

    with periodically(sample, SAMPLE_SECONDS, "the live page"):
        yield lambda: last[0] if last else None


def totals_of(snapshot: Snapshot, model_id: str) -> Totals:
    """Return what the workers of a stream have done.

    Args:
      snapshot: of all.
      model_id: the model of the start.
    """
    outcomes = {
        "scored": snapshot.count(names.ROWS_SCORED),
        "dead": snapshot.count(names.ROWS_DEAD),
        "duplicate": snapshot.count(names.ROWS_DUPLICATE),
    }
    return Totals(
        time.time(),
        snapshot.model_id or model_id,
        outcomes,
        outcomes["scored"],
        snapshot.count(names.ROWS_FLAGGED),
        snapshot.latency.counts,
        BOUNDS,
    )


def watched_figures(report: MonitorReport) -> WatchedFigures:
    """Return what the page shows of a report."""
    quality = report.quality
    return WatchedFigures(
        _drift_figures(report.drift), None if quality is None else _quality_figures(quality)
    )


def _quality_figures(quality: Quality) -> QualityFigures:
    weeks = []
    for one in quality.periods[-_SHOWN_WEEKS:]:
        if one.expected is not None:
            figures = (one.expected.precision, one.expected.recall)
            precision, recall = (_expected(figure) for figure in figures)
            weeks.append(ExpectedWeek(one.since, one.days, one.flagged, precision, recall))
    return QualityFigures(weeks, quality.assumption.holds is False, quality.assumption.why)


def _expected(figure: Estimate) -> tuple[float, float, float] | None:
    if figure.value is None or figure.interval is None:
        return None
    return figure.value, figure.interval.low, figure.interval.high


def _drift_figures(report: DriftReport) -> DriftFigures:
    # Imported here: charts are for those who monitor.
    from beam_fraud.evaluation.drift import title

    figures = [one for one in (report.score, *report.features) if one.segment is None]
    known = sorted(
        ((one.psi, one) for one in figures if one.psi is not None), key=lambda pair: -pair[0]
    )
    return DriftFigures(
        report.rows,
        report.windows[0].day,
        report.windows[-1].day,
        sum(window.judged for window in report.windows),
        [(f"{title(alarm)}.", alarm.advice) for alarm in report.open_alarms],
        [Changed(one.name, psi, one.state, one.weight) for psi, one in known[:_SHOWN]],
    )
