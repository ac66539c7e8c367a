"""Count the scored rows of a model for a summary of drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from functools import cached_property
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.decisions.inputs import DECIDED_AT, FEATURES, RULE_INPUTS
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.bundle import Bundle, read_reference
from beam_fraud.models.reference import SCORE_QUANTILES, Distribution, Reference
from beam_fraud.models.reliability import EDGES, bins_of
from beam_fraud.monitoring.drift.arrivals import Arrivals
from beam_fraud.monitoring.drift.counts import NO_MODEL, ModelCounts, key_of
from beam_fraud.monitoring.drift.statistics import (
    AMOUNT,
    DEAD_LETTERS,
    DECISION,
    FLAGGED,
    FLAGGED_HOUR,
    HOUR,
    HOURS_OF_A_DAY,
    LATENESS,
    LATENESS_EDGES,
    SCORE,
)
from beam_fraud.monitoring.drift.summary import OCTAVES, Layout, Measure, Segments, Summary
from beam_fraud.records.faults import REASONS
from beam_fraud.schema.duration import HOUR as HOUR_MICROS
from beam_fraud.schema.event_time import event_micros

#: Values of a decision.
DECISIONS = ("approve", "review", "decline")
#: Columns that are read of every archive.
COLUMNS = ("event_time", "amount", "score", "flagged", "decision", "model_id")
#: Set by `rescore` on rows of models that are only compared.
SHADOW = "shadow"
#: Reasons of dead letters with a bin of their own.
_REASONS = 9
#: Values of a segment's column with groups of their own; all others are one more.
SEGMENT_VALUES = 9


def zone_of(bundle: Bundle) -> tzinfo:
    """Return the time zone of days and hours: that of the model's schema."""
    zone = bundle.schema.timezone
    return UTC if zone == "UTC" else ZoneInfo(zone)


#: Counts of dead letters, of any model: every reason has a bin, as none is known to be frequent.
LETTERS = Layout((Measure(DEAD_LETTERS, "categorical", categories=tuple(REASONS)),))
#: Their key.
LETTERS_KEY = key_of(NO_MODEL, LETTERS)
#: Counts of rows by score, of which expected quality follows: of all, of flagged ones, of others.
BY_SCORE = Layout(
    (Measure(SCORE, "numeric", tuple(EDGES.tolist())),), (Segments(FLAGGED, ("true",)),)
)


def counter_of(bundle: Bundle, segments: Sequence[str] = (), *, late: bool = True) -> Counter:
    """Return what counts the rows that a model decides, with their features and lateness.

    Args:
      bundle: the model.
      late: whether lateness is counted.
      segments: categorical features whose values divide the rows; others are left out.
    """
    known = bundle.features.categories
    layout = Layout(
        measures_of(bundle.features, read_reference(bundle), kept=True, late=late),
        tuple(Segments(one, segment_values(known[one])) for one in segments if one in known),
    )
    return Counter(layout, bundle.model_id, bundle.features, zone_of(bundle))


def segment_values(categories: Sequence[str]) -> tuple[str, ...]:
    """Return the values of a categorical feature that have groups of their own."""
    return tuple(categories[:SEGMENT_VALUES])


def measures_of(
    features: FeatureSet,
    reference: Reference,
    *,
    kept: bool,
    reasons: Mapping[str, int] | None = None,
    late: bool = False,
) -> tuple[Measure, ...]:
    """Return the measures of an archive's rows.

    Args:
      features: the model's features.
      reference: its reference; empty for an imported model, whose bins are powers of two.
      kept: whether the archive has the features.
      reasons: reasons of dead letters to their number; None or empty for none.
      late: whether the archive tells when rows arrived.
    """
    known = {one.feature: one for one in reference.distributions}
    score = known.get("score")
    edges = tuple(SCORE_QUANTILES.tolist()) if score is None else score.edges
    names = features.names if kept else ()
    hours = tuple(float(hour) for hour in range(HOURS_OF_A_DAY - 1))
    measures = [
        Measure(HOUR, "numeric", hours),
        Measure(DECISION, "categorical", categories=DECISIONS),
        Measure(FLAGGED, "categorical", categories=("passed", "flagged")),
        Measure(FLAGGED_HOUR, "numeric", hours),
        Measure(SCORE, "numeric", edges),
    ]
    if reasons:
        categories = tuple(largest(reasons, _REASONS))
        measures.append(Measure(DEAD_LETTERS, "categorical", categories=categories))
    if late:
        measures.append(Measure(LATENESS, "numeric", LATENESS_EDGES))
    if AMOUNT not in names:
        measures.append(_measure(AMOUNT, known.get(AMOUNT), features))
    measures += [_measure(name, known.get(name), features) for name in names]
    return tuple(measures)


def _measure(name: str, known: Distribution | None, features: FeatureSet) -> Measure:
    if name in features.categories:
        return Measure(name, "categorical", categories=features.categories[name])
    edges = known.edges if known is not None else ()
    return Measure(name, "numeric", edges or OCTAVES)


@dataclass(frozen=True)
class Counter:
    """Counts the rows of one model."""

    layout: Layout
    #: Rows of other models are left out.
    model_id: str
    #: The model's features, in the order in which rows keep them.
    features: FeatureSet
    #: Time zone of days and hours.
    zone: tzinfo = UTC
    #: When rows arrived; None if nothing tells.
    arrivals: Arrivals | None = None

    @cached_property
    def key(self) -> str:
        """Key of its counts."""
        return key_of(self.model_id, self.layout)

    @cached_property
    def score_key(self) -> str:
        """Key of its counts by score."""
        return key_of(self.model_id, BY_SCORE)

    def counts(self, batch: pa.RecordBatch) -> list[ModelCounts]:
        """Return the counts of the rows of a batch by both layouts, `layout` and `BY_SCORE`.

        Args:
          batch: as for `count`.
        """
        rows = self._own(batch)
        return [] if rows is None else self._both(rows, self._summary(rows))

    def later(self, batch: pa.RecordBatch, earlier: Arrivals) -> tuple[list[ModelCounts], Arrivals]:
        """Return the counts of rows that arrive after others, and the arrivals up to them.

        Args:
          batch: as for `count`.
          earlier: arrivals of the rows before (`Arrivals.latest`).
        """
        arrivals = Arrivals.merged([earlier, arrivals_of(batch)])
        rows = self._own(batch)
        if rows is None:
            return [], arrivals.latest()
        summary = replace(self, arrivals=arrivals)._summary(rows)
        return self._both(rows, summary), arrivals.latest()

    def _both(self, rows: _Rows, summary: Summary) -> list[ModelCounts]:
        return [
            ModelCounts(self.key, self.model_id, summary),
            ModelCounts(self.score_key, self.model_id, _by_score(rows)),
        ]

    def counted(self, schema: pa.Schema) -> list[str]:
        """Return the columns of scored rows in memory that are counted."""
        own = {name.partition(".")[0] for name in self.columns(schema)} | {DECIDED_AT}
        return [name for name in schema.names if name in own]

    def columns(self, schema: pa.Schema) -> list[str]:
        """Return the columns to read of a file."""
        wanted = [*COLUMNS, SHADOW]
        if any(name in self.layout.spans for name in self.features.names):
            wanted.append(FEATURES)
        if self.arrivals is not None:
            wanted.append(DECIDED_AT)
        wanted += [column_of(one.column, schema, self.features) for one in self.layout.segments]
        return [name for name in dict.fromkeys(wanted) if name.split(".")[0] in schema.names]

    def count(self, batch: pa.RecordBatch) -> Summary:
        """Return the summary of the rows of a batch.

        Args:
          batch: n scored rows with at least `COLUMNS`.
        """
        rows = self._own(batch)
        return Summary.empty(self.layout) if rows is None else self._summary(rows)

    def by_score(self, batch: pa.RecordBatch) -> Summary:
        """Return the counts of the rows of a batch by `BY_SCORE`.

        Args:
          batch: as for `count`.
        """
        rows = self._own(batch)
        return Summary.empty(BY_SCORE) if rows is None else _by_score(rows)

    def _own(self, batch: pa.RecordBatch) -> _Rows | None:
        """Return the rows of the model; None if there are none."""
        batch = own_rows(batch, self.model_id)
        if not len(batch):
            return None
        micros = event_micros(batch)
        return _Rows(batch, micros, *local_hours(micros, self.zone))

    def _summary(self, rows: _Rows) -> Summary:
        batch, hours = rows.batch, rows.hours
        codes = pc.index_in(batch.column("decision"), value_set=pa.array(DECISIONS))
        flagged = _floats(pc.cast(pc.cast(batch.column("flagged"), pa.int8()), pa.float64()))
        values: dict[str, npt.NDArray[np.float64]] = {
            HOUR: hours,
            DECISION: _floats(pc.cast(codes, pa.float64())),
            FLAGGED: flagged,
            # Rows that passed have none.
            FLAGGED_HOUR: np.where(flagged > 0, hours, np.nan),
            SCORE: _floats(batch.column("score")),
        }
        if self.arrivals is not None:
            values[LATENESS] = self._lateness(batch, rows.micros, self.arrivals)
        if AMOUNT in self.layout.spans:
            values[AMOUNT] = _floats(batch.column("amount"))
        values |= self._features(batch)
        places = {
            measure.name: measure.places(values[measure.name])
            for measure in self.layout.measures
            if measure.name in values
        }
        groups = [self._groups(batch, one, values) for one in self.layout.segments]
        return Summary.of_rows(self.layout, rows.days, places, groups)

    def _features(self, batch: pa.RecordBatch) -> Mapping[str, npt.NDArray[np.float64]]:
        if FEATURES not in batch.schema.names:
            return {}
        struct = batch.column(FEATURES)
        return {
            field.name: _floats(column)
            for field, column in zip(struct.type, struct.flatten(), strict=True)
            if field.name in self.layout.spans
        }

    def _lateness(
        self, batch: pa.RecordBatch, micros: npt.NDArray[np.int64], arrivals: Arrivals
    ) -> npt.NDArray[np.float64]:
        if DECIDED_AT not in batch.schema.names:
            return np.full(len(batch), np.nan)
        known = batch.column(DECIDED_AT).is_valid().to_numpy(zero_copy_only=False)
        return np.where(known, arrivals.lateness(micros, decided_micros(batch)), np.nan)

    def _groups(
        self,
        batch: pa.RecordBatch,
        segments: Segments,
        values: Mapping[str, npt.NDArray[np.float64]],
    ) -> npt.NDArray[np.intp]:
        others = len(segments.values)
        if segments.column in self.features.categories:
            names = self.features.categories[segments.column]
            of_code = np.full(len(names) + 1, others)
            for group, value in enumerate(segments.values):
                of_code[names.index(value)] = group
            codes = values.get(segments.column)
            if codes is None:
                return np.full(len(batch), others)
            known = np.nan_to_num(codes, nan=len(names)).astype(np.intp)
            return of_code[np.clip(known, 0, len(names))]
        found = pc.index_in(
            text_column(batch, segments.column), value_set=pa.array(segments.values, pa.string())
        )
        return np.asarray(pc.fill_null(found, others), dtype=np.intp)


class _Rows(NamedTuple):
    """Rows of one model, n > 0."""

    batch: pa.RecordBatch
    #: int64[n], microseconds.
    micros: npt.NDArray[np.int64]
    #: int64[n], days since 1970, and float64[n], hours, in the time zone.
    days: npt.NDArray[np.int64]
    hours: npt.NDArray[np.float64]


def _by_score(rows: _Rows) -> Summary:
    passed = ~rows.batch.column("flagged").to_numpy(zero_copy_only=False).astype(np.bool_)
    scores = {SCORE: bins_of(_floats(rows.batch.column("score")))}
    return Summary.of_rows(BY_SCORE, rows.days, scores, [passed.astype(np.intp)])


def arrivals_of(batch: pa.RecordBatch) -> Arrivals:
    """Return when rows arrived, of those that say when they were decided.

    Args:
      batch: n rows with `event_time`, and perhaps `decided_at`.
    """
    if DECIDED_AT not in batch.schema.names:
        return Arrivals.merged([])
    known = batch.select(["event_time", DECIDED_AT])
    known = known.filter(known.column(DECIDED_AT).is_valid())
    return Arrivals.of_rows(event_micros(known), decided_micros(known))


def local_hours(
    micros: npt.NDArray[np.int64], zone: tzinfo
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the day since 1970, int64[n], and the hour, float64[n], of times in a zone.

    Args:
      micros: int64[n], microseconds; n > 0.
      zone: the time zone.
    """
    hours = micros // HOUR_MICROS
    if zone is UTC:
        return _days_and_hours(hours)
    first = int(hours.min())
    offsets = hours - first
    shifts = np.zeros(int(offsets.max()) + 1, np.int64)
    for hour in np.unique(offsets).tolist():
        moment = datetime.fromtimestamp((first + hour) * 3600, zone)
        shift = moment.utcoffset()
        shifts[hour] = 0 if shift is None else int(shift.total_seconds() // 3600)
    return _days_and_hours(hours + shifts[offsets])


def _days_and_hours(
    hours: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    days = hours // HOURS_OF_A_DAY
    # A remainder would be another division.
    return days, (hours - HOURS_OF_A_DAY * days).astype(np.float64)


def decided_micros(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Return when n kept rows were decided, int64[n] microseconds; 0 where that is unknown."""
    decided = pc.fill_null(batch.column(DECIDED_AT).cast(pa.int64()), 0)
    return np.asarray(decided, dtype=np.int64)


def own_rows(batch: pa.RecordBatch, model_id: str) -> pa.RecordBatch:
    """Return the rows that a model decided or, in a comparison, would decide."""
    mask = pc.equal(_plain(batch.column("model_id")), model_id)
    if SHADOW in batch.schema.names:
        mask = pc.and_not(mask, pc.fill_null(batch.column(SHADOW), False))
    if pc.all(mask).as_py():
        return batch
    return batch.filter(mask)


def column_of(segment: str, schema: pa.Schema, features: FeatureSet) -> str:
    """Return the column of a file that holds the values of a segment; "" if none does."""
    if segment in features.categories:
        return FEATURES
    if segment in schema.names:
        return segment
    if RULE_INPUTS in schema.names:
        kept = schema.field(RULE_INPUTS).type
        if kept.get_field_index(segment) >= 0:
            return f"{RULE_INPUTS}.{segment}"
    return ""


def text_column(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Return the values of a column as text, string[n]; nulls if it is missing."""
    if name in batch.schema.names:
        return _plain(batch.column(name)).cast(pa.string())
    if RULE_INPUTS in batch.schema.names:
        kept = batch.column(RULE_INPUTS)
        if kept.type.get_field_index(name) >= 0:
            return _plain(kept.field(name)).cast(pa.string())
    return pa.nulls(len(batch), pa.string())


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _floats(column: pa.Array) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return values


def reference_counts(reference: Reference, layout: Layout) -> Mapping[str, npt.NDArray[np.int64]]:
    """Return the reference's rows by bin of each measure that it has, int64[bins]."""
    found = {}
    for one in reference.distributions:
        measure = layout.measure(one.feature)
        counts = np.array([*one.counts, one.missing], np.int64)
        if measure is not None and measure.width == len(counts):
            found[one.feature] = counts
    return found


def counts_of(found: Sequence[ModelCounts], model_id: str) -> tuple[list[Summary], Summary]:
    """Return the counts of a model's rows for drift, one of each layout, and those by score."""
    rows, by_score = list[Summary](), list[Summary]()
    for one in found:
        if one.model_id != model_id:
            continue
        if _is_by_score(one.summary.layout):
            # Edges are computed, and may differ in the last digit elsewhere.
            by_score.append(replace(one.summary, layout=BY_SCORE))
        else:
            rows.append(one.summary)
    return rows, Summary.merged(BY_SCORE, by_score)


def _is_by_score(layout: Layout) -> bool:
    names = [measure.name for measure in layout.measures]
    return (names, layout.width, layout.segments) == ([SCORE], BY_SCORE.width, BY_SCORE.segments)


def letters_of(found: Sequence[ModelCounts]) -> Summary:
    """Return the counts of dead letters."""
    return Summary.merged(LETTERS, (one.summary for one in found if one.model_id == NO_MODEL))


def letters_in(letters: Summary) -> dict[str, int]:
    """Return the number of dead letters by reason, of counts by `LETTERS`."""
    totals = letters.of(DEAD_LETTERS).sum(axis=0).tolist()
    found = {reason: rows for reason, rows in zip(REASONS, totals, strict=False) if rows}
    return {reason: found[reason] for reason in largest(found, len(found))}


def with_letters(
    summary: Summary, letters: Summary, reasons: Mapping[str, int]
) -> tuple[Summary, int]:
    """Return counts of rows with the dead letters of their days, and the number of the others.

    Args:
      summary: counts of rows.
      letters: counts by `LETTERS`.
      reasons: reasons to tell apart, the most frequent of them, to their number; empty for none.
    """
    if not reasons or not len(summary.days):
        return summary, int(letters.of(DEAD_LETTERS).sum())
    chosen = Measure(DEAD_LETTERS, "categorical", categories=tuple(largest(reasons, _REASONS)))
    measures = list(summary.layout.measures)
    place = next((at for at, one in enumerate(measures) if one.name == LATENESS), len(measures))
    layout = replace(summary.layout, measures=(*measures[:place], chosen, *measures[place:]))
    inside = (letters.days >= summary.days[0]) & (letters.days <= summary.days[-1])
    by_reason = letters.of(DEAD_LETTERS)[inside]
    bins = [
        chosen.categories.index(one) if one in chosen.categories else len(chosen.categories)
        for one in REASONS
    ]
    counts = np.zeros((len(by_reason), len(layout.groups), layout.width), np.int64)
    own = counts[:, 0, layout.spans[DEAD_LETTERS]]
    for reason, place in enumerate([*bins, len(chosen.categories), chosen.bins]):
        own[:, place] += by_reason[:, reason]
    # They have no column of a segment.
    first = 1
    for segments in layout.segments:
        first += len(segments.groups)
        counts[:, first - 1, layout.spans[DEAD_LETTERS]] = own
    dated = Summary(layout, letters.days[inside], counts)
    outside = int(letters.of(DEAD_LETTERS)[~inside].sum())
    return Summary.merged(layout, [summary.within(layout), dated]), outside


def largest(counted: Mapping[str, int], most: int) -> Sequence[str]:
    """Return the most frequent values, the most frequent first, then by name."""
    return [value for value, _ in sorted(counted.items(), key=lambda one: (-one[1], one[0]))][:most]
