"""The rows that models are measured on, the same for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.evaluation.candidate import overlap_warning
from beam_fraud.evaluation.rows import EvaluatedRows, rows_of
from beam_fraud.evaluation.segments import Segmentation, schema_to_read, segmentations_of
from beam_fraud.features.dataset import Dataset, load_dataset
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.features.velocity.reach import WindowReach
from beam_fraud.models.bundle import Bundle
from beam_fraud.models.fitting import Rows
from beam_fraud.models.handbook import TEST_DAYS, Period, card_codes, period_after, rows_to_test
from beam_fraud.models.metrics import one_class_warning
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.event_time import event_micros, micros_of, moment_of
from beam_fraud.schema.schema import Schema
from beam_fraud.schema.toml import load_schema


def tested_period(
    protocol: str, bundles: Sequence[Bundle], since: datetime | None, until: datetime | None
) -> Period:
    """Return the test period of a protocol, unless given.

    Args:
      protocol: must be `handbook`.
      bundles: the models, trained on the same days.
      since: first event time to test, or None.
      until: first event time after the tests, or None.

    Raises:
      UsageError: the protocol is unknown.
      FraudError: a bundle lacks its training period, or bundles imply different periods.
    """
    if protocol != "handbook":
        raise UsageError(f"--protocol {protocol}: must be handbook", Code.OPTION_VALUE)
    first, *others = [_period(bundle, since, until) for bundle in bundles]
    for bundle, period in zip(bundles[1:], others, strict=True):
        if period != first:
            raise FraudError(
                f"{bundle.path}: was trained on other days than {bundles[0].path}, so --protocol "
                "handbook tests them on other rows; evaluate each alone",
                Code.BUNDLES_APART,
            )
    return first


def tested(transactions: pa.Table, period: Period) -> pa.Table:
    """Return the test transactions, of those from the start of training on."""
    labels = transactions.column("label").to_numpy()
    rows = rows_to_test(event_micros(transactions), card_codes(transactions), labels, period)
    return transactions.filter(pa.array(rows))


def _period(bundle: Bundle, since: datetime | None, until: datetime | None) -> Period:
    if bundle.manifest.trained_on is None:
        raise FraudError(
            f"{bundle.path}: doesn't say which days it was trained on, which --protocol handbook "
            "has to know; train it again",
            Code.BUNDLES_APART,
        )
    if "account_id" not in bundle.schema.roles:
        raise FraudError(
            f"{bundle.path}: its schema gives no column for 'account_id', so --protocol handbook "
            "can't tell cards apart",
            Code.ROLE_MISSING,
        )
    first, last = (micros_of(datetime.fromisoformat(text)) for text in bundle.manifest.trained_on)
    period = period_after(first, last)
    start = period.start if since is None else micros_of(since)
    stop = start + TEST_DAYS * DAY if until is None else micros_of(until)
    return Period(first, start, stop)


@dataclass(frozen=True)
class Evaluated:
    """Labelled rows, with the features of every model."""

    #: The rows as arrays.
    rows: EvaluatedRows
    #: A table per model with the columns that it needs.
    transactions: tuple[pa.Table, ...]
    #: Features of each model.
    features: tuple[FeatureSet, ...]
    #: The data set with its counts.
    dataset: Dataset
    #: The schema of the rows.
    schema: Schema
    #: IANA time zone of days and hours.
    timezone: str
    #: Longest look-back of the models, and the reach of earlier rows; None without look-back.
    reach: WindowReach | None
    #: Values of `--segment`.
    segments: tuple[str, ...]

    def warnings(self, bundles: Sequence[Bundle]) -> list[str]:
        """Return warnings about figures on these rows, one line each."""
        times = event_micros(self.transactions[0])
        first, last = int(times.min()), int(times.max())
        labels = self.rows.labels
        texts = [overlap_warning(bundle, first, last) for bundle in bundles]
        texts.append(one_class_warning(len(labels), int(labels.sum())))
        texts.append(None if self.reach is None else self.reach.warning())
        return [warning for warning in texts if warning]

    def segmentations(self) -> tuple[Segmentation, ...]:
        """Return the segmentations of the rows."""
        return segmentations_of(self.transactions[0], self.rows, self.schema, self.segments)


def evaluated_rows(
    bundles: Sequence[Bundle],
    rows: Rows,
    *,
    schema: Schema | str | None,
    protocol: str | None,
    segments: tuple[str, ...],
) -> Evaluated:
    """Read the rows, once for all models of the same velocity features.

    Args:
      bundles: bundles of the models.
      rows: the labelled transactions, and those before them.
      schema: a schema, preset or TOML file, in place of the bundles' own.
      protocol: protocol of tested rows, or None for all.
      segments: further columns to read.

    Raises:
      FraudError: there are no rows or labels, or models would be measured on different rows.
    """
    own_schema = load_schema(schema) if isinstance(schema, str) else schema
    features = [bundle.features_in(own_schema or bundle.schema) for bundle in bundles]
    period = None if protocol is None else tested_period(protocol, bundles, rows.since, rows.until)
    if period is not None:
        since, until = moment_of(period.trained_from), moment_of(period.stop)
        rows = replace(rows, since=since, until=until)
    loaded: list[tuple[Schema, Dataset, pa.Table]] = []
    for one in features:
        read = schema_to_read(one.schema, segments)
        if all(read != known for known, _, _ in loaded):
            dataset = load_dataset(
                rows.transactions,
                read,
                since=rows.since,
                until=rows.until,
                history=rows.history,
                labels=rows.labels or "required",
            )
            loaded.append((read, dataset, _chosen(dataset, period)))
    tables = tuple(
        next(table for known, _, table in loaded if known == schema_to_read(one.schema, segments))
        for one in features
    )
    for bundle, table in zip(bundles, tables, strict=True):
        if not _same_rows(table, tables[0]):
            raise FraudError(
                f"{bundle.path}: its schema reads other rows of these files than that of "
                f"{bundles[0].path}; give one --schema for all, or evaluate each alone",
                Code.BUNDLES_APART,
            )
    for column in segments:
        name = column if column in tables[0].column_names else None
        if name is not None and tables[0].column(name).null_count == tables[0].num_rows:
            raise FraudError(
                f"--segment {column}: no row has a value, is there such a column?",
                Code.COLUMN_MISSING,
            )
    # The protocol's days are in UTC.
    timezone = "UTC" if protocol else features[0].schema.timezone
    return Evaluated(
        rows=rows_of(tables[0], timezone),
        transactions=tables,
        features=tuple(features),
        dataset=loaded[0][1],
        schema=features[0].schema,
        timezone=timezone,
        reach=_reach((dataset, table) for _, dataset, table in loaded),
        segments=segments,
    )


def _reach(loaded: Iterable[tuple[Dataset, pa.Table]]) -> WindowReach | None:
    reaches = [
        dataset.reach.measured_from(int(event_micros(table).min()))
        for dataset, table in loaded
        if dataset.reach is not None
    ]
    return max(reaches, key=lambda reach: reach.look_back, default=None)


def _chosen(dataset: Dataset, period: Period | None) -> pa.Table:
    rows = dataset.transactions if period is None else tested(dataset.transactions, period)
    if not rows.num_rows:
        raise FraudError("no rows to evaluate on in the files and times given", Code.INPUT_EMPTY)
    return rows


def _same_rows(table: pa.Table, other: pa.Table) -> bool:
    columns = ("transaction_id", "event_time", "label")
    return table is other or all(table.column(c).equals(other.column(c)) for c in columns)
