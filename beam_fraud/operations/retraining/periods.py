"""The rows that a challenger learns from, those it is compared on, and those too young for both."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from beam_fraud.models.bundle import Bundle
from beam_fraud.models.label_delay import WAITED_FOR, DelayEstimate, Ints, estimate_delays
from beam_fraud.records.label_file import NEVER, Labels
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.event_time import micros_of


@dataclass(frozen=True)
class LabelledTimes:
    """The times and labels of n rows."""

    #: int64[n], rising: event times, microseconds.
    times: Ints
    #: int8[n]: 1 is fraud.
    labels: Labels
    #: int64[n]: when each label was known; `NEVER` if unknown.
    known_at: Ints
    #: The moment up to which labels are known, microseconds.
    as_of: int

    @property
    def timed_frauds(self) -> int:
        """Number of frauds whose labels have a time."""
        return int(np.count_nonzero(self._timed))

    def delays(self) -> DelayEstimate | None:
        """Estimate how late labels of frauds come; None with too few times."""
        timed = self._timed
        times = self.times[timed]
        return estimate_delays(self.known_at[timed] - times, np.maximum(self.as_of - times, 0))

    @property
    def _timed(self) -> npt.NDArray[np.bool_]:
        timed: npt.NDArray[np.bool_] = (self.labels == 1) & (self.known_at != NEVER)
        return timed


def advised_maturity(delays: DelayEstimate) -> int:
    """Return the time that 95 % of the labels of frauds need, whole days in microseconds."""
    return int(np.ceil(delays.quantile(WAITED_FOR) / DAY)) * DAY


@dataclass(frozen=True)
class Periods:
    """The periods of a retraining, by event time in microseconds."""

    #: The moment up to which labels are known.
    as_of: int
    #: Minimum age of a row whose label counts.
    maturity: int
    #: Begin of the rows that champion and challenger are compared on; rows before are learned.
    compared_from: int
    #: End of the compared rows, and of all that are mature.
    mature_until: int

    def learned(self, times: Ints) -> int:
        """Return how many of n rising event times come before the compared ones."""
        return int(np.searchsorted(times, self.compared_from))

    def mature(self, times: Ints) -> int:
        """Return how many of n rising event times are mature."""
        return int(np.searchsorted(times, self.mature_until))


def periods_of(rows: LabelledTimes, maturity: int, compared: int, champion: Bundle) -> Periods:
    """Return the periods of a retraining.

    The compared rows are the newest mature ones. None is among those that the champion was fitted
    on, or its figures would promise too much.

    Args:
      rows: all rows of the archive.
      maturity: minimum age of a row whose label counts, microseconds.
      compared: maximum length of the compared period, microseconds.
      champion: the model in force.
    """
    mature_until = rows.as_of - maturity + 1
    compared_from = mature_until - compared
    if champion.manifest.trained_on is not None:
        fitted_until = micros_of(datetime.fromisoformat(champion.manifest.trained_on[1]))
        compared_from = max(compared_from, fitted_until + 1)
    return Periods(rows.as_of, maturity, min(compared_from, mature_until), mature_until)
