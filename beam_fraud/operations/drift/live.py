"""Judge what a running stream or server counts, beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import TypeVar

import numpy as np

from beam_fraud.errors import Code, FraudError
from beam_fraud.models.bundle import Bundle, read_reference
from beam_fraud.models.drift import (
    counter_of,
    counts_of,
    letters_in,
    letters_of,
    reference_counts,
    with_letters,
    zone_of,
)
from beam_fraud.monitoring.drift import counts
from beam_fraud.monitoring.drift.report import DriftReport, Monitored, report_of
from beam_fraud.monitoring.drift.statistics import DECISION
from beam_fraud.monitoring.drift.summary import Summary
from beam_fraud.operations.drift.quality import RowsByScore
from beam_fraud.operations.drift.weights import reference_sample, score_weights
from beam_fraud.storage.atomic import write_file
from beam_fraud.storage.store import store_at
from beam_fraud.storage.urls import Place
from beam_fraud.wording import reason_of

_T = TypeVar("_T")
#: Share of a day's rows that later days must have before the day is over: some clocks are ahead.
_LATER = 0.01
#: Time after the end of a day by the clock (and of an hour), and seconds without rows, from which a
#: day is over if no later one has begun; and days for which a stream counts as one of the present.
_GRACE, _IDLE_SECONDS, _PRESENT_DAYS = timedelta(hours=1), 900.0, 7
#: Seconds after which days are judged again: rows may come late.
_AGAIN_SECONDS = 3600.0


def read_pieces(place: Path | str) -> list[bytes] | None:
    """Return the pieces of the counts in a directory or at a URL; None if it holds none.

    A stream on a cluster leaves several files, which add up.

    Raises:
      FraudError: they are damaged, or cannot be read.
    """
    store, pieces = store_at(place), list[bytes]()
    name = ""
    try:
        names = store.list(counts.FILES)
        for name in names:
            pieces += counts.decoded(store.read(name))
    except OSError as error:
        shown = store.place(name) if name else str(place)
        raise FraudError(f"{shown}: {reason_of(error)}", Code.INPUT_UNREADABLE) from None
    except ValueError as error:
        raise FraudError(f"{store.place(name)}: is damaged ({error})", Code.INPUT_DAMAGED) from None
    return pieces if names else None


def read_counts(directory: Place) -> list[counts.ModelCounts] | None:
    """Return the counts that a stream or server left in a directory; None if it holds none.

    Raises:
      FraudError: they are damaged, or cannot be read.
    """
    pieces = read_pieces(directory.local or directory.name)
    try:
        return None if pieces is None else counts.counted(pieces)
    except ValueError as error:
        raise FraudError(
            f"{directory.shown}: its counts are damaged ({error})", Code.INPUT_DAMAGED
        ) from None


@dataclass(frozen=True)
class LiveSettings:
    """Settings of a live monitor."""

    #: Returns the committed pieces of the counts (`monitoring.drift.counts`).
    pieces: Callable[[], Sequence[bytes]]
    #: Returns the bundle that decides.
    bundle: Callable[[], Bundle]
    #: Columns whose values divide the rows.
    segments: tuple[str, ...]
    #: Whether lateness is counted: several workers do not know each other's arrivals.
    late: bool
    #: Directory in which the counts are written; None if the workers write them.
    directory: Path | None
    #: False alarms a day over everything together.
    rate: float
    #: Called with each new report, and the rows by score of its days and model.
    judged: Callable[[DriftReport, RowsByScore, Bundle], object]


class LiveDrift:
    """Writes the counts to their file, and judges days as they end.

    For one thread.

    Args:
      settings: the settings.
      now: current time.
    """

    def __init__(
        self, settings: LiveSettings, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._settings, self._now = settings, now
        self._counts, self._unwritten = counts.RunningCounts(), False
        self._changed_at = self._judged_at = time.monotonic()
        #: Model, last day and completeness of the last report.
        self._standing: tuple[str, int, bool] | None = None
        self._weights: tuple[str, dict[str, float]] | None = None

    def look(self) -> None:
        """Write what has changed, and judge if a day has ended.

        Raises:
          FraudError: the state or the bundle cannot be read, or the file not be written.
        """
        settings, moment = self._settings, time.monotonic()
        pieces = list(settings.pieces())
        if _checked(lambda: self._counts.update(pieces)):
            self._unwritten, self._changed_at = True, moment
        changed = self._unwritten
        if changed:
            self._write(settings.directory)
        bundle, idle = settings.bundle(), moment - self._changed_at >= _IDLE_SECONDS
        judged = self._standing is not None and self._standing[0] == bundle.model_id
        if judged and not (changed or idle) and moment - self._judged_at < _AGAIN_SECONDS:
            return
        summary, by_score, letters = self._summaries(bundle)
        if not len(summary.days):
            return
        zone = zone_of(bundle)
        clock = self._now()
        scored = RowsByScore.of_counts(by_score, summary)
        summary, complete = until_now(summary, clock, zone, idle=idle)
        standing = bundle.model_id, int(summary.days[-1]), complete
        if standing == self._standing and moment - self._judged_at < _AGAIN_SECONDS:
            return
        reference, reasons = read_reference(bundle), letters_in(letters)
        summary, undated = with_letters(summary, letters, reasons)
        monitored = Monitored(
            bundle.model_id,
            summary,
            reference_counts(reference, summary.layout),
            self._weights_of(bundle),
            dead_letters=reasons,
            dead_letters_undated=undated,
            zone=zone,
        )
        # Of the day that goes on by the clock, hours are judged: an outage is not seen by its rows.
        over = clock - _GRACE
        today = over.astimezone(zone).date().toordinal() - _EPOCH
        running = over if not complete and int(summary.days[-1]) == today else None
        report = report_of(monitored, settings.rate, complete=complete, now=running)
        self._standing, self._judged_at = standing, moment
        settings.judged(report, scored.until(standing[1]), bundle)

    def _write(self, directory: Path | None) -> None:
        if directory is None:
            self._unwritten = False
            return
        file = directory / counts.FILE
        try:
            write_file(file, self._counts.encoded(), durable=False)
            self._unwritten = False
        except OSError as error:
            raise FraudError(
                f"{file}: cannot be written ({reason_of(error)})", Code.OUTPUT_UNWRITABLE
            ) from None

    def _summaries(self, bundle: Bundle) -> tuple[Summary, Summary, Summary]:
        """Return the counts of a model's rows, of these by score, and of the dead letters."""
        settings = self._settings
        layout = counter_of(bundle, settings.segments, late=settings.late).layout
        found = _checked(self._counts.counted)
        own, by_score = counts_of(found, bundle.model_id)
        rows = Summary.merged(layout, (one.within(layout) for one in own))
        return rows, by_score, letters_of(found)

    def _weights_of(self, bundle: Bundle) -> dict[str, float]:
        if self._weights is None or self._weights[0] != bundle.model_id:
            sample = reference_sample(read_reference(bundle), bundle.features)
            self._weights = bundle.model_id, dict(score_weights(bundle, sample))
        return self._weights[1]


def until_now(summary: Summary, now: datetime, zone: tzinfo, *, idle: bool) -> tuple[Summary, bool]:
    """Return the days of a running process, and whether the last one is over.

    A day is over when later rows have come, or by the clock if none came for some time: a source
    that has stopped sends no later rows.

    Args:
      summary: with days.
      now: the time.
      zone: time zone of days.
      idle: whether no rows came for some time.
    """
    whole = summary.every_day()
    rows = whole.of(DECISION).sum(axis=1)
    last = len(rows) - 1
    while last > 0 and rows[last:].sum() < _LATER * rows[last - 1]:
        last -= 1
    whole = Summary(whole.layout, whole.days[: last + 1], whole.counts[: last + 1])
    ended = (now - _GRACE).astimezone(zone).date().toordinal() - _EPOCH - 1
    day = int(whole.days[-1])
    if not idle or not day <= ended < day + _PRESENT_DAYS:
        return whole, False
    days = np.arange(whole.days[0], ended + 1)
    counted = np.zeros((len(days), *whole.counts.shape[1:]), np.int64)
    counted[: len(whole.days)] = whole.counts
    return Summary(whole.layout, days, counted), True


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).toordinal()


def _checked(read: Callable[[], _T]) -> _T:
    try:
        return read()
    except ValueError as error:
        raise FraudError(
            f"the counts of the monitor are damaged ({error}); start again with another --out",
            Code.STATE_UNREADABLE,
        ) from None
