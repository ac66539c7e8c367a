"""Count scored rows by decision and score, and find the frauds that labels name among them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import tzinfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.features.hashing import Hashes
from beam_fraud.models.drift import BY_SCORE, Counter, local_hours, own_rows
from beam_fraud.models.reliability import BINS
from beam_fraud.monitoring.drift.statistics import DECISION, SCORE
from beam_fraud.monitoring.drift.summary import Summary
from beam_fraud.records.known_frauds import KnownFrauds
from beam_fraud.records.label_file import NEVER, UNKNOWN, LabelFile
from beam_fraud.schema.event_time import event_micros

Ints = npt.NDArray[np.int64]

#: Columns that frauds are found and grouped by.
OF_LABELS = ("transaction_id", "account_id", "merchant_id")


@dataclass(frozen=True)
class RowsByScore:
    """Rows of days by decision and score, and the frauds among them that are labelled."""

    #: Of `BY_SCORE`.
    summary: Summary
    #: In parts; none without labels.
    frauds: tuple[KnownFrauds, ...] = ()
    #: Newest event time, microseconds; None of counts, which have no labels.
    newest: int | None = None

    @classmethod
    def merged(cls, parts: Iterable[RowsByScore]) -> RowsByScore:
        """Return the rows of all parts, in any order."""
        listed = list(parts)
        return cls(
            Summary.merged(BY_SCORE, (part.summary for part in listed)),
            tuple(frauds for part in listed for frauds in part.frauds),
            max((part.newest for part in listed if part.newest is not None), default=None),
        )

    @classmethod
    def of_counts(cls, by_score: Summary, rows: Summary) -> RowsByScore:
        """Return the rows of counts, of days on which all were counted by score.

        Earlier versions counted rows, but not their scores by decision.

        Args:
          by_score: of `BY_SCORE`.
          rows: the same rows, counted for drift, with all of its days.
        """
        whole = rows.of(DECISION).sum(axis=1)
        places = np.searchsorted(rows.days, by_score.days)
        known = by_score.of(SCORE).sum(axis=1)
        there = np.isin(by_score.days, rows.days)
        there[there] = known[there] == whole[places[there]]
        return cls(Summary(BY_SCORE, by_score.days[there], by_score.counts[there]))

    def until(self, day: int) -> RowsByScore:
        """Return the rows up to a day, days since 1970."""
        there = self.summary.days <= day
        summary = Summary(BY_SCORE, self.summary.days[there], self.summary.counts[there])
        return replace(self, summary=summary)

    @property
    def by_decision(self) -> Ints:
        """Passed and flagged rows by score, int64[d, 2, BINS]."""
        flagged, passed = (self.summary.of(SCORE, group)[:, :BINS] for group in (1, 2))
        return np.stack([passed, flagged], axis=1)


@dataclass(frozen=True)
class ScoreCounter:
    """Counts the rows of one model by score, and finds the frauds among them."""

    #: Counts the same rows for drift: it knows the model and the days.
    counter: Counter
    #: Labels of the rows, or None.
    labels: LabelFile | None

    def columns(self, schema: pa.Schema) -> list[str]:
        """Return the columns to read of a file beside those of `counter`."""
        return [] if self.labels is None else [one for one in OF_LABELS if one in schema.names]

    def count(self, batch: pa.RecordBatch) -> RowsByScore:
        """Count the rows of a batch with the columns of `counter` and `columns`."""
        batch = own_rows(batch, self.counter.model_id)
        if not len(batch):
            return RowsByScore.merged(())
        frauds = () if self.labels is None else (_frauds(batch, self.counter.zone, self.labels),)
        return RowsByScore(self.counter.by_score(batch), frauds, int(event_micros(batch).max()))


def _frauds(batch: pa.RecordBatch, zone: tzinfo, labels: LabelFile) -> KnownFrauds:
    """Return the frauds among n scored rows."""
    days, _ = local_hours(event_micros(batch), zone)
    known, known_at = np.full(len(batch), UNKNOWN), np.full(len(batch), NEVER)
    labels.replace(batch.column("transaction_id"), known, known_at)
    frauds = known == 1
    rows = batch.filter(pa.array(frauds))
    return KnownFrauds(
        days[frauds],
        event_micros(rows),
        known_at[frauds],
        np.asarray(rows.column("flagged"), dtype=np.bool_),
        _scores(rows),
        labels.probabilities(rows.column("transaction_id")),
        _hashes(rows, "account_id", labels),
        _hashes(rows, "merchant_id", labels),
    )


def _scores(batch: pa.RecordBatch) -> npt.NDArray[np.float64]:
    return np.asarray(batch.column("score"), dtype=np.float64)


def _hashes(rows: pa.RecordBatch, column: str, labels: LabelFile) -> Hashes:
    ids = rows.column("transaction_id")
    if column in rows.schema.names:
        ids = pc.coalesce(rows.column(column).cast(pa.string()), ids)
    return labels.hashing.of(ids)
