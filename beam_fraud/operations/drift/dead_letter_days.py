"""The days of dead letters: by the times in their records, where these can be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.errors import FraudError
from beam_fraud.models.drift import LETTERS, local_hours
from beam_fraud.monitoring.drift.statistics import DEAD_LETTERS
from beam_fraud.monitoring.drift.summary import Layout, Summary
from beam_fraud.records.parse import parse
from beam_fraud.records.validate import readable_times
from beam_fraud.schema.duration import SECOND
from beam_fraud.schema.schema import Schema
from beam_fraud.sources.replayed import is_csv_source, raw_records

#: Days of a record whose time is unknown.
_UNKNOWN = -1


@dataclass(frozen=True)
class DeadLetterDays:
    """Counts the dead letters of batches by day and reason."""

    schema: Schema
    layout: Layout
    #: First and last day of the scored rows: a time outside is none.
    days: tuple[int, int]
    zone: tzinfo = UTC
    #: Headers of CSV sources, by source.
    headers: Mapping[str, str] = field(default_factory=dict)

    def count(self, batch: pa.RecordBatch) -> tuple[Summary, int]:
        """Count n dead letters.

        One without a readable time belongs to the day of the nearest one of its source and batch
        that has a time.

        Args:
          batch: `source`, `position`, `reason` and `payload` of n dead letters.

        Returns:
          The summary, and the number of dead letters that belong to no day.
        """
        days = self.known(batch)
        known = days != _UNKNOWN
        reasons = batch.column("reason").filter(pa.array(known))
        return letters_by_day(self.layout, days[known], reasons), int((~known).sum())

    def known(self, batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
        """Return the day of each of n dead letters since 1970, int64[n]; -1 where it is unknown."""
        days = np.full(len(batch), _UNKNOWN, np.int64)
        sources = batch.column("source")
        for source in pc.unique(sources).to_pylist():
            places = np.flatnonzero(pc.equal(sources, source).to_numpy(zero_copy_only=False))
            days[places] = self._days_of(source, batch.take(pa.array(places)))
        return days

    def _days_of(self, source: str, batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
        days = np.full(len(batch), _UNKNOWN, np.int64)
        if is_csv_source(source) and source not in self.headers:
            return days
        try:
            raw = raw_records(
                source,
                batch.column("position"),
                batch.column("payload"),
                self.headers.get(source),
                self.schema,
            )
            micros, known = readable_times(parse(raw, self.schema, labels="ignored"), self.schema)
        except FraudError:
            # The header is not that of the schema.
            return days
        if not known.any():
            return days
        days[known] = local_hours(micros[known], self.zone)[0]
        days[(days < self.days[0]) | (days > self.days[1])] = _UNKNOWN
        dated = np.flatnonzero(days != _UNKNOWN)
        if len(dated) in (0, len(days)):
            return days
        positions = batch.column("position").to_numpy()
        order = dated[np.argsort(positions[dated], kind="stable")]
        at = np.searchsorted(positions[order], positions)
        left, right = order[np.maximum(at - 1, 0)], order[np.minimum(at, len(order) - 1)]
        nearer = np.abs(positions - positions[left]) <= np.abs(positions[right] - positions)
        nearest: npt.NDArray[np.int64] = days[np.where(nearer, left, right)]
        return nearest


def arriving_letters(batch: pa.RecordBatch, schema: Schema, zone: tzinfo, now: float) -> Summary:
    """Count n dead letters as they arrive, by `models.drift.LETTERS`.

    One without a readable time in or beside it belongs to the day of its arrival.

    Args:
      batch: `source`, `position`, `reason` and `payload`.
      schema: the schema of the records.
      zone: time zone of days.
      now: seconds of the epoch.
    """
    [today], _ = local_hours(np.array([int(now * SECOND)]), zone)
    days = DeadLetterDays(schema, LETTERS, (0, int(today) + 1), zone).known(batch)
    days[days == _UNKNOWN] = today
    return letters_by_day(LETTERS, days, batch.column("reason"))


def letters_by_day(layout: Layout, days: npt.NDArray[np.int64], reasons: pa.Array) -> Summary:
    """Return the summary of dead letters.

    Args:
      layout: with the measure of dead letters.
      days: int64[n], days since 1970.
      reasons: string[n].
    """
    [measure] = [one for one in layout.measures if one.name == DEAD_LETTERS]
    found = pc.index_in(
        reasons.cast(pa.string()), value_set=pa.array(measure.categories, pa.string())
    )
    codes = np.asarray(pc.fill_null(found, len(measure.categories)), dtype=np.float64)
    # They have no column of a segment.
    others = [np.full(len(days), len(one.values)) for one in layout.segments]
    return Summary.of_rows(layout, days, {DEAD_LETTERS: measure.places(codes)}, others)
