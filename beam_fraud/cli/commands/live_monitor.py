"""`--monitor` of `stream` and `serve`: count what is scored, and judge the days beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from beam_fraud.cli.commands.scoring import ScoringPlan
from beam_fraud.cli.commands.times import false_alarm_rate
from beam_fraud.cli.options.monitoring import LiveDriftOptions
from beam_fraud.errors import Code, UsageError
from beam_fraud.models.bundle import Bundle
from beam_fraud.monitoring.periodic_work import periodically
from beam_fraud.storage.atomic import make_directory
from beam_fraud.storage.database.connection import prepare_database

if TYPE_CHECKING:
    from beam_fraud.monitoring.drift.report import DriftReport
    from beam_fraud.operations.drift.notices import Told

_LOG = logging.getLogger(__name__)
#: Seconds between two looks at the counts.
_LOOK_SECONDS = 30.0


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
    #: Directory in which the counts are written; None if the workers write them.
    directory: Path | None
    #: Database in which alerts wait, or None; and the names of the channels.
    database: str | None
    channels: Sequence[str]


def no_report() -> DriftReport | None:
    """Return no report, of a run without `--monitor`."""
    return None


@contextmanager
def judging(
    options: LiveDriftOptions, judged: Judged | None
) -> Iterator[Callable[[], DriftReport | None]]:
    """Judge days while the body runs, in a thread, and once more at its end.

    Args:
      options: options of the call.
      judged: what is judged, with `--monitor`; None for nothing.

    Yields:
      A function that returns the last report; None before any.

    Raises:
      FraudError: the directory cannot be made.
    """
    if not options.monitor or judged is None:
        yield no_report
        return
    # Imported here: SciPy's statistics are for those who monitor.
    from beam_fraud.operations.drift.live import LiveDrift, LiveSettings

    if judged.directory is not None:
        make_directory(judged.directory)
    drift = LiveDrift(
        LiveSettings(
            judged.pieces,
            judged.bundle,
            options.segments,
            judged.directory,
            false_alarm_rate(options.false_alarms),
            Notifying(judged.database, judged.channels),
        )
    )
    with periodically(drift.look, _LOOK_SECONDS, "the monitor"):
        yield lambda: drift.report


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
            # What earlier processes queued is there.
            notices.queue_alarms(self._database, self._channels, report, text)
        return report
