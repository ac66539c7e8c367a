"""Validate parsed batches to transactions and dead letters."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from time import time_ns

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.features.velocity.fixed_point import amount_too_large
from beam_fraud.records.composites import composite_identifiers, composite_times
from beam_fraud.records.conversion import convert
from beam_fraud.records.dead_letters import dead_letters, no_dead_letters, without_skipped
from beam_fraud.records.directories import contradicting
from beam_fraud.records.doubts import Doubt
from beam_fraud.records.event_times import EARLIEST_PLAUSIBLE
from beam_fraud.records.faults import Faults, faults_of_parsing
from beam_fraud.records.identifiers import Identifiers, as_codes, as_identifiers
from beam_fraud.records.label_values import as_labels
from beam_fraud.records.numbers import Numbers, as_numbers, in_major_units
from beam_fraud.records.text import as_mask
from beam_fraud.records.time_settlement import plausibly_read, settled_notation
from beam_fraud.records.times import Times, as_times
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.notation import AS_WRITTEN, IdNotation
from beam_fraud.schema.rates import Conversion
from beam_fraud.schema.schema import EVENT_TIME, FeatureColumn, Labels, Schema
from beam_fraud.schema.stages import EXPLAINED_LABEL
from beam_fraud.sources.columns import is_category
from beam_fraud.sources.raw import APPENDED, POSITION, Origin, origin_of, sources_of, with_origin

#: Maximum number of a model: scikit-learn's trees use float32.
_LARGEST = float(np.finfo(np.float32).max)
#: Maximum of arrivals in milliseconds, which may be any number: the year 5138.
_END_OF_TIME = 10**14


def validate(
    parsed: pa.RecordBatch,
    schema: Schema,
    *,
    labels: Labels,
    ahead: int | None = None,
    now: int | None = None,
) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Check every value of a parsed batch (`records.parse`).

    Args:
      parsed: n rows.
      schema: the schema.
      labels: whether labels are kept, and required.
      ahead: microseconds that an event may be after its arrival; None for no limit. A message
        arrives at its broker timestamp (`@appended`), a row of a file at the file's modification
        time (`Origin.appended`). Without an arrival there is no check.
      now: this machine's time, microseconds, an upper bound of arrivals, whatever timestamp the
        producer set; None for data at rest.

    Returns:
      The transactions (`Schema.transactions`, followed by `@position`, the origin in the metadata)
      and the dead letters (`stages.DEAD_LETTER`), each in the order of `parsed`; n rows together
      with the skipped records.
    """
    checked = validate_arrivals(parsed, schema, labels=labels, ahead=ahead, now=now)
    return checked.transactions, checked.dead


@dataclass(frozen=True)
class Arrived:
    """The result of `validate`, and how far event times are ahead of their arrival."""

    transactions: pa.RecordBatch
    dead: pa.RecordBatch
    #: int64[n] of all rows, microseconds; None without arrival or time.
    ahead: npt.NDArray[np.int64] | None
    #: bool[n]: which rows are dead or skipped.
    faulty: npt.NDArray[np.bool_]
    #: Rows that were read by an assumption, dead letters included.
    doubts: Counter[Doubt] = field(default_factory=Counter)
    #: Records that are no transactions, by reason (`envelopes.SKIPPED`).
    skipped: Counter[str] = field(default_factory=Counter)


def validate_arrivals(
    parsed: pa.RecordBatch,
    schema: Schema,
    *,
    labels: Labels,
    ahead: int | None,
    now: int | None,
) -> Arrived:
    """Validate, and return how far ahead the rows are."""
    origin = origin_of(parsed)
    faults = faults_of_parsing(parsed)
    arrival = None if ahead is None else _arrival(parsed, origin, now)
    latest = None if arrival is None or ahead is None else arrival + ahead
    reading = _Columns(parsed, schema, faults, latest)
    columns = reading.read(labels=labels)
    early = None if arrival is None else reading.event_times - arrival
    faulty = faults.faulty
    described = schema.transactions(labels=labels)
    described = with_origin(described.append(pa.field(POSITION, pa.int64())), origin)
    arrays = [*(columns[name] for name in described.names[:-1]), parsed.column(POSITION)]
    if not faulty.any():
        transactions = pa.RecordBatch.from_arrays(arrays, schema=described)
        return Arrived(transactions, no_dead_letters(), early, faulty, reading.doubts)
    good = pa.array(~faulty)
    transactions = pa.RecordBatch.from_arrays([a.filter(good) for a in arrays], schema=described)
    dead, skipped = without_skipped(dead_letters(parsed, faults, schema.source.unwrap))
    return Arrived(transactions, dead, early, faulty, reading.doubts, skipped)


@dataclass(frozen=True)
class ColumnFaults:
    """Every fault of the columns of a parsed batch, not the first of each row alone."""

    #: Reason, column and bool[n]: which of the n rows.
    found: list[tuple[str, str, npt.NDArray[np.bool_]]]
    #: int64[m]: event times of the rows with a valid one, microseconds.
    event_times: npt.NDArray[np.int64]
    #: Rows that were read by an assumption.
    doubts: Counter[Doubt]


def column_faults(parsed: pa.RecordBatch, schema: Schema, *, labels: Labels) -> ColumnFaults:
    """Check every value of a parsed batch as `validate` does; return the faults of each column.

    Args:
      parsed: n rows, each of which was parsed.
      schema: the schema.
      labels: whether labels are checked, and required.
    """
    every = _EveryFault(len(parsed))
    reading = _Columns(parsed, schema, every, None)
    reading.read(labels=labels)
    untimed = [where for _, column, where in every.found if column == schema.roles["event_time"]]
    timed = ~np.logical_or.reduce([np.zeros(len(parsed), dtype=bool), *untimed])
    return ColumnFaults(every.found, reading.event_times[timed], reading.doubts)


def readable_times(
    parsed: pa.RecordBatch, schema: Schema
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return the event times of a parsed batch, also of rows that lack other values.

    Args:
      parsed: n rows.
      schema: the schema.

    Returns:
      int64[n], microseconds, and bool[n]: which rows have a valid time.
    """
    faults = faults_of_parsing(parsed)
    reading = _Columns(parsed, schema, faults, None)
    reading.read_times()
    return reading.event_times, ~faults.faulty


@dataclass(frozen=True)
class LabelColumns:
    """The roles of a file of labels, as columns that the rows may lack."""

    #: Column of who labelled; of the reason; and of the transaction's time.
    labelled_by: str
    reason: str
    event_time: str | None
    #: Label of every row, 0 or 1; None for that of its column.
    label: int | None
    #: When and by whom rows were labelled that do not say so.
    labelled_at: int | None
    who: str


def validate_labels(
    parsed: pa.RecordBatch, schema: Schema, columns: LabelColumns, now: int
) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Check every value of a parsed batch of labels.

    Args:
      parsed: n rows.
      schema: roles and notations.
      columns: what no schema says.
      now: this machine's time, microseconds; later labels are dead letters.

    Returns:
      The labels (`stages.EXPLAINED_LABEL`, followed by `@position`; `event_time` is null where a
      row has none) and the dead letters; n rows together, each in the order of `parsed`.
    """
    faults = faults_of_parsing(parsed)
    reading = _Columns(parsed, schema, faults, None)
    read = reading.read_labels(columns, now)
    fields = [field.with_nullable(True) for field in EXPLAINED_LABEL]
    described = with_origin(pa.schema([*fields, pa.field(POSITION, pa.int64())]), origin_of(parsed))
    arrays = [*(read[field.name] for field in fields), parsed.column(POSITION)]
    labels = pa.RecordBatch.from_arrays(arrays, schema=described)
    if not faults.faulty.any():
        return labels, no_dead_letters()
    return labels.filter(pa.array(~faults.faulty)), dead_letters(parsed, faults)


class _EveryFault(Faults):
    """Keep each fault of a row."""

    def __init__(self, rows: int) -> None:
        super().__init__(rows)
        self.found: list[tuple[str, str, npt.NDArray[np.bool_]]] = []

    def add(self, reason: str, column: str, where: npt.NDArray[np.bool_]) -> None:
        super().add(reason, column, where)
        if where.any():
            self.found.append((reason, column, where))


class _Columns:
    """Read the columns of a parsed batch, and record faults."""

    def __init__(
        self,
        parsed: pa.RecordBatch,
        schema: Schema,
        faults: Faults,
        latest: npt.NDArray[np.int64] | int | None,
    ) -> None:
        self._parsed = parsed
        self._schema = schema
        self._faults = faults
        self._latest = latest
        self._origin = origin_of(parsed)
        #: int64[n], microseconds; 0 for rows without a valid time.
        self.event_times = np.zeros(0, dtype=np.int64)
        #: Rows of each doubt.
        self.doubts = Counter[Doubt]()

    def read(self, *, labels: Labels) -> dict[str, pa.Array]:
        """Return the columns of `Schema.transactions`, undefined in faulty rows."""
        roles = self._schema.roles
        columns = {
            "transaction_id": (
                self._identifier("transaction_id")
                if "transaction_id" in roles
                else _positions_as_ids(self._parsed)
            ),
            "event_time": self.read_times(),
            "account_id": self._identifier("account_id"),
            "merchant_id": self._identifier("merchant_id"),
            "amount": self._amount(),
        }
        if "currency" in roles:
            rejected = FeatureColumn("currency", "categorical") in self._schema.features
            missing = "missing_feature" if rejected else "allow"
            columns["currency"] = self._recorded(
                roles["currency"], self._currencies, missing=missing
            )
        if labels != "ignored" and "label" in roles:
            columns |= self._labels(required=labels == "required")
        for feature in self._schema.features:
            if feature.column not in columns:
                columns[feature.column] = self._feature(feature)
        for column in self._schema.key_columns:
            columns[column] = self._text(column, missing="allow")
        for column, said in self._origin.partitions:
            if said is not None and column in self._own_columns:
                other = contradicting(
                    self._values(column), column, said, self._schema, self._origin
                )
                self._faults.add("contradicts_directory", column, other)
        return columns

    @cached_property
    def _own_columns(self) -> tuple[str, ...]:
        """Columns that rows may have beside their directory."""
        layout = self._origin.csv
        return tuple(self._parsed.schema.names if layout is None else layout.columns)

    def _values(self, column: str) -> pa.Array:
        if column in self._parsed.schema.names:
            return self._parsed.column(column)
        return pa.nulls(len(self._parsed))

    def _identifier(self, role: str) -> pa.Array:
        column = self._schema.role(role)
        if column is None:
            return pa.nulls(len(self._parsed), pa.string())
        missing = "allow" if role in self._schema.optional else "missing_id"
        notation = self._schema.ids.get(role, AS_WRITTEN)
        identifiers = self._identifiers(column, notation)
        self.doubts[Doubt.ROUNDED] += identifiers.rounded
        return self._recorded(column, identifiers, missing=missing)

    def _text(self, column: str, *, missing: str) -> pa.Array:
        return self._recorded(column, self._identifiers(column), missing=missing)

    def _identifiers(
        self, column: str, notation: IdNotation = AS_WRITTEN, *, cut: bool = False
    ) -> Identifiers:
        schema = self._schema
        if column in schema.composites:
            parts = [self._values(part) for part in schema.composites[column]]
            return composite_identifiers(parts, notation, schema.absent_ids)
        return as_identifiers(
            self._values(column),
            notation,
            absent=schema.absent_ids,
            whole_floats=schema.reading >= 2,
            cut=cut,
        )

    @cached_property
    def _currencies(self) -> Identifiers:
        """The values of the role `currency`."""
        written = self._identifiers(self._schema.roles["currency"])
        return as_codes(written) if self._schema.reading >= 3 else written

    def _recorded(self, column: str, identifiers: Identifiers, *, missing: str) -> pa.Array:
        """Record the faults of identifiers, and return the values."""
        self._faults.add("wrong_type", column, identifiers.unreadable)
        self._faults.add("too_long", column, identifiers.too_long)
        if missing != "allow":
            self._faults.add(missing, column, identifiers.absent)
        return identifiers.values

    def read_times(self) -> pa.Array:
        """Return the event times, and record their faults."""
        column = self._schema.roles["event_time"]
        times = self._times(column)
        unknown = times.absent | times.unreadable | times.impossible
        self.event_times = times.micros
        self._faults.add("missing_time", column, times.absent)
        self._faults.add("unparseable_time", column, times.unreadable)
        self._faults.add("impossible_time", column, times.impossible)
        if self._schema.time.naive is None and self._schema.timezone != "UTC":
            self.doubts[Doubt.ZONE] += int(np.count_nonzero(times.naive))
        if self._schema.reading >= 2 and self._schema.time.doubted:
            known = times.micros[~unknown] if unknown.any() else times.micros
            self._doubt(known, times.assumed)
        if self._latest is not None:
            self._faults.add("future_time", column, times.micros > self._latest)
        return pa.array(times.micros).cast(EVENT_TIME)

    def _doubt(self, micros: npt.NDArray[np.int64], assumed: int) -> None:
        """Count implausible event times."""
        self.doubts[Doubt.UNIT] += assumed
        if not len(micros):
            return
        if micros.min() < EARLIEST_PLAUSIBLE:
            self.doubts[Doubt.EARLY] += int(np.count_nonzero(micros < EARLIEST_PLAUSIBLE))
        # A stream has its own limit, and counts rows that are ahead of their arrival.
        latest = time_ns() // 1_000 + DAY
        if self._latest is None and micros.max() > latest:
            self.doubts[Doubt.LATE] += int(np.count_nonzero(micros > latest))

    def _amount(self) -> pa.Array:
        column = self._schema.roles["amount"]
        amounts = self._numbers(column)
        values = amounts.values
        if self._schema.notation_of(column).unit == "minor":
            known = "currency" in self._schema.roles
            values = in_major_units(values, self._currencies.values if known else None)
        self._faults.add("missing_amount", column, amounts.absent)
        self._add_unreadable(column, amounts)
        self._faults.add("non_finite_amount", column, ~np.isfinite(values))
        if not self._schema.allow_negative:
            self._faults.add("negative_amount", column, values < 0)
        if self._schema.conversion is not None:
            values = self._converted(values, self._schema.conversion)
        self._faults.add("too_large", column, self._too_large(values))
        return pa.array(values)

    def _converted(
        self, amounts: npt.NDArray[np.float64], conversion: Conversion
    ) -> npt.NDArray[np.float64]:
        column, currencies = self._schema.roles["currency"], self._currencies
        converted = convert(amounts, currencies.values, self.event_times, conversion)
        self._faults.add("missing_currency", column, currencies.absent)
        self._faults.add("no_rate", column, converted.without_rate)
        self.doubts[Doubt.RATE] += converted.aged
        return converted.amounts

    def _numbers(self, column: str) -> Numbers:
        return as_numbers(
            self._values(column), self._schema.notation_of(column), self._schema.absent
        )

    def _add_unreadable(self, column: str, numbers: Numbers) -> None:
        self._faults.add("number_notation", column, numbers.foreign)
        self._faults.add("wrong_type", column, numbers.unreadable)

    def _too_large(self, amounts: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        # Windows sum amounts in fixed point, whose range is smaller than a model's.
        return amount_too_large(amounts) if self._schema.velocity else np.abs(amounts) > _LARGEST

    def _times(self, column: str) -> Times:
        schema = self._schema
        if column in schema.composites:
            values = composite_times([self._values(part) for part in schema.composites[column]])
        else:
            values = self._values(column)
        forms = settled_notation(schema.time, self._origin.forms, column)
        times = as_times(values, forms, schema.timezone)
        if forms is not schema.time and times.unreadable.any():
            by_any = as_times(values.filter(pa.array(times.unreadable)), schema.time)
            self.doubts[Doubt.FORM] += int(np.count_nonzero(plausibly_read(by_any)))
        return times

    def _labels(self, *, required: bool) -> dict[str, pa.Array]:
        """Return labels and label times; an unreadable label is null."""
        column = self._schema.roles["label"]
        spelled = as_labels(self._values(column), self._schema.labels, self._schema.absent)
        wrong = spelled.unknown | spelled.unreadable
        if required:
            self._faults.add("invalid_label", column, wrong)
        else:
            self.doubts[Doubt.LABEL] += int(np.count_nonzero(spelled.unreadable))
        columns = {}
        if "labelled_at" in self._schema.roles:
            column = self._schema.roles["labelled_at"]
            times = self._times(column)
            columns["labelled_at"] = pa.array(times.micros, mask=times.absent).cast(EVENT_TIME)
            # Without a time, the rows that may know the label are unknown.
            unknown = times.unreadable | times.impossible
            wrong |= unknown
            if required:
                self._faults.add("unparseable_time", column, unknown)
        columns["label"] = pa.array(spelled.values, mask=None if required else wrong)
        return columns

    def read_labels(self, columns: LabelColumns, now: int) -> dict[str, pa.Array]:
        """Return the columns of `stages.EXPLAINED_LABEL`, undefined in faulty rows."""
        rows = len(self._parsed)
        who = self._recorded(
            columns.labelled_by, self._identifiers(columns.labelled_by), missing="allow"
        )
        event_time = pa.nulls(rows, EVENT_TIME)
        if columns.event_time is not None:
            event_time = self._moment(columns.event_time)
        return {
            "transaction_id": self._identifier("transaction_id"),
            "account_id": self._identifier("account_id"),
            "merchant_id": self._identifier("merchant_id"),
            "event_time": event_time,
            "label": self._verdicts(columns.label),
            "labelled_at": self._labelled_at(columns.labelled_at, now),
            "labelled_by": who.fill_null(columns.who),
            "reason": self._recorded(
                columns.reason, self._identifiers(columns.reason), missing="allow"
            ),
        }

    def _verdicts(self, label: int | None) -> pa.Array:
        """Return the labels of rows, int8[n]: one for all, or each its own."""
        if label is not None:
            return pa.array(np.full(len(self._parsed), label, dtype=np.int8))
        column = self._schema.roles["label"]
        spelled = as_labels(self._values(column), self._schema.labels, self._schema.absent)
        self._faults.add("invalid_label", column, spelled.unknown | spelled.unreadable)
        return pa.array(spelled.values)

    def _moment(self, column: str) -> pa.Array:
        """Return times, null where absent."""
        times = self._times(column)
        self._faults.add("unparseable_time", column, times.unreadable)
        self._faults.add("impossible_time", column, times.impossible)
        return pa.array(times.micros, mask=times.absent).cast(EVENT_TIME)

    def _labelled_at(self, otherwise: int | None, now: int) -> pa.Array:
        """Return when rows were labelled."""
        column = self._schema.roles["labelled_at"]
        moments = self._moment(column)
        if otherwise is not None:
            moments = moments.fill_null(pa.scalar(otherwise, pa.int64()).cast(EVENT_TIME))
        self._faults.add("missing_time", column, as_mask(moments.is_null()))
        micros = np.asarray(moments.view(pa.int64()).fill_null(0))
        self._faults.add("future_time", column, micros > now)
        return moments

    def _feature(self, feature: FeatureColumn) -> pa.Array:
        if feature.lenient:
            return self._readable(feature)
        missing = "allow" if feature.missing == "allow" else "missing_feature"
        if feature.kind == "categorical":
            return self._text(feature.column, missing=missing)
        numbers = self._numbers(feature.column)
        self._add_unreadable(feature.column, numbers)
        not_a_number = np.isnan(numbers.values) & ~numbers.absent & ~numbers.unreadable
        if missing != "allow":
            self._faults.add(missing, feature.column, numbers.absent)
            self._faults.add("non_finite_feature", feature.column, not_a_number)
        self._faults.add("non_finite_feature", feature.column, np.isinf(numbers.values))
        self._faults.add("too_large", feature.column, np.abs(numbers.values) > _LARGEST)
        return pa.array(numbers.values)

    def _readable(self, feature: FeatureColumn) -> pa.Array:
        """Return the values of a feature; what would be a fault is absent."""
        if feature.kind == "categorical":
            cut = feature.missing == "linking"
            if cut and not is_category(self._values(feature.column).type):
                return pa.nulls(len(self._parsed), pa.string())
            return self._identifiers(feature.column, cut=cut).values
        numbers = self._numbers(feature.column)
        with np.errstate(invalid="ignore"):
            good = (np.abs(numbers.values) <= _LARGEST) & ~numbers.unreadable & ~numbers.foreign
        return pa.array(np.where(good, numbers.values, np.nan))


def _arrival(
    parsed: pa.RecordBatch, origin: Origin, now: int | None
) -> npt.NDArray[np.int64] | int | None:
    """Return the arrival of each row, or of all, in microseconds; None if unknown."""
    if APPENDED in parsed.schema.names:
        arrived = np.minimum(parsed.column(APPENDED).to_numpy(), _END_OF_TIME) * 1_000
        of_rows: npt.NDArray[np.int64] = arrived if now is None else np.minimum(arrived, now)
        return of_rows
    known = [] if origin.appended is None else [origin.appended * 1_000]
    return min([*known, *([] if now is None else [now])], default=None)


def _positions_as_ids(parsed: pa.RecordBatch) -> pa.Array:
    positions = parsed.column(POSITION).cast(pa.string())
    return pc.binary_join_element_wise(sources_of(parsed), positions, ":")
