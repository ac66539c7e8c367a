"""`--monitor` of `stream` and `serve`: count what is scored, and judge the days beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from beam_fraud.cli.commands.scoring import ScoringPlan
from beam_fraud.cli.commands.times import false_alarm_rate
from beam_fraud.cli.options.monitoring import LiveDriftOptions
from beam_fraud.errors import Code, UsageError
from beam_fraud.models.bundle import Bundle
from beam_fraud.monitoring.periodic_work import periodically
from beam_fraud.storage.atomic import make_directory
from beam_fraud.storage.database.connection import prepare_database

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from beam_fraud.evaluation.monitor_report import MonitorReport
    from beam_fraud.monitoring.drift.report import DriftReport
    from beam_fraud.operations.drift.notices import Told
    from beam_fraud.operations.drift.quality import RowsByScore

_LOG = logging.getLogger(__name__)
#: Seconds between two looks at the counts.
_LOOK_SECONDS = 30.0
#: Type: returns the last report of a monitor, or None; called from any thread.
ReadReport: TypeAlias = Callable[[], "MonitorReport | None"]


def with_monitor(planned: ScoringPlan, options: LiveDriftOptions) -> ScoringPlan:
    """Return a plan that also counts what is scored, if `--monitor` is given.

    Raises:
      UsageError: an option of the monitor is invalid, or given without it.
    """
    if not options.monitor:
        for name, option in (("segments", "--segment"), ("false_alarms", "--false-alarms")):
            if getattr(options, name) != getattr(LiveDriftOptions, name):
                raise UsageError(f"{option}: needs --monitor", Code.OPTION_CONFLICT)
        return planned
    false_alarm_rate(options.false_alarms)
    known = planned.scoring.bundle.features.categories
    for column in options.segments:
        if column not in known:
            raise UsageError(
                f"--segment {column}: no categorical feature of the model, whose values are known "
                f"before the first row; give one of {', '.join(known) or 'those of another model'}",
                Code.COLUMN_MISSING,
            )
    return replace(planned, scoring=replace(planned.scoring, monitored=options.segments))


@dataclass(frozen=True)
class Judged:
    """The counts, model and places of a live monitor."""

    #: Returns the committed pieces of the counts (`monitoring.drift.counts`).
    pieces: Callable[[], Sequence[bytes]]
    #: Returns the bundle that decides.
    bundle: Callable[[], Bundle]
    #: Whether lateness is counted.
    late: bool
    #: Directory in which the counts are written; None if the workers write them.
    directory: Path | None
    #: Database in which alerts wait, or None; and the names of the channels.
    database: str | None
    channels: Sequence[str]


def no_report() -> MonitorReport | None:
    """Return no report, of a run without `--monitor`."""
    return None


def gauges_of(report: MonitorReport | None) -> Iterable[Metric]:
    """Return the gauges of a report; none without one."""
    return () if report is None else report.gauges()


@contextmanager
def judging(options: LiveDriftOptions, judged: Judged | None) -> Iterator[ReadReport]:
    """Judge days while the body runs, in a thread, and once more at its end.

    Args:
      options: options of the call.
      judged: what is judged; None for nothing.

    Yields:
      A function that returns the last report; None before any.

    Raises:
      FraudError: the directory cannot be made.
    """
    if judged is None:
        yield no_report
        return
    # Imported here: SciPy's statistics are for those who monitor.
    from beam_fraud.operations.drift.live import LiveDrift, LiveSettings

    if judged.directory is not None:
        make_directory(judged.directory)
    reporting = Reporting(Notifying(judged.database, judged.channels))
    drift = LiveDrift(
        LiveSettings(
            judged.pieces,
            judged.bundle,
            options.segments,
            judged.late,
            judged.directory,
            false_alarm_rate(options.false_alarms),
            reporting,
        )
    )
    with periodically(drift.look, _LOOK_SECONDS, "the monitor"):
        yield lambda: reporting.last


class Reporting:
    """Notifies people of alarms, and adds expected quality to what is judged.

    Args:
      notify: notifies people; returns the report whose alarms say how long they are snoozed.
    """

    def __init__(self, notify: Callable[[DriftReport], DriftReport]) -> None:
        self._notify = notify
        #: The last report; None before any. For all threads.
        self.last: MonitorReport | None = None

    def __call__(self, drift: DriftReport, by_score: RowsByScore, bundle: Bundle) -> None:
        """Report.

        Args:
          drift: what is judged.
          by_score: the rows of the same days by score.
          bundle: the model.

        Raises:
          FraudError: the database of alerts fails, or the bundle's reliability cannot be read; the
            report is there nevertheless, without what failed.
        """
        from beam_fraud.cli.commands.monitored_quality import quality_by_score
        from beam_fraud.evaluation.monitor_report import MonitorReport

        self.last = MonitorReport(drift, None)
        try:
            self.last = replace(self.last, drift=self._notify(drift))
        finally:
            quality = quality_by_score(by_score, bundle, drift.alarms)
            self.last = replace(self.last, quality=quality)


class Notifying:
    """Logs the alarms that go on, and queues them for the channels: each once.

    Args:
      database: in which alerts wait; None without channels.
      channels: names of the channels.
    """

    def __init__(self, database: str | None, channels: Sequence[str]) -> None:
        self._database, self._channels = database, channels
        self._told: list[Told] = []

    def __call__(self, report: DriftReport) -> DriftReport:
        """Return the report, whose alarms say how long they are snoozed.

        Raises:
          FraudError: the database fails; the next report's call queues what this one did not.
        """
        from beam_fraud.cli.commands.monitor import notice_text
        from beam_fraud.operations.drift import notices

        text = partial(notice_text, report.model_id)
        if self._database is not None:
            prepare_database(self._database)
            report = notices.with_snoozes(report, notices.snoozes_of(self._database))
        for notice in notices.notices_of(report, self._told, text):
            _LOG.warning("%s", notice.text)
        self._told += map(notices.Told.of, report.loud_alarms)
        if self._database is not None:
            # The database has the notices that earlier processes queued.
            notices.queue_alarms(self._database, self._channels, report, text)
        return report
