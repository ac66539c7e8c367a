"""Parse and validate raw batches."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa

from beam_fraud.monitoring.counters import (
    DEAD_PREFIX,
    DOUBT_PREFIX,
    LABELS_DEAD,
    LABELS_TOMBSTONE,
    ROWS_AHEAD,
    ROWS_CORRECTION,
    ROWS_DEAD,
    ROWS_TOMBSTONE,
)
from beam_fraud.records.dead_letters import without_skipped
from beam_fraud.records.doubts import Doubt, warnings_of
from beam_fraud.records.envelopes import CORRECTION, TOMBSTONE
from beam_fraud.records.labels import read_labels
from beam_fraud.records.parse import parse
from beam_fraud.records.time_settlement import refuse_contested
from beam_fraud.records.validate import Arrived, validate_arrivals
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.schema.toml import load_schema
from beam_fraud.sources.kafka.registry import RegistrySettings
from beam_fraud.sources.raw import POSITION, is_of_labels, sources_of
from beam_fraud.transforms.counters import count, note_span
from beam_fraud.transforms.records import (
    GatherRecords,
    Output,
    Record,
    check_output,
    dead_letters_as,
    table_as,
)


@dataclass
class Parse(beam.PTransform):
    """Parse raw batches (`records.parse`); pass batches of labels on."""

    #: The schema, which names the columns.
    schema: Schema
    #: Treatment of labels.
    labels: Labels
    #: Schema registry of framed messages, or None.
    registry: RegistrySettings | None = None

    def expand(self, raw: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Parse."""
        step = beam.Map(_parse, self.schema, self.labels, self.registry)
        return raw | step.with_output_types(pa.RecordBatch)


def _parse(
    raw: pa.RecordBatch, schema: Schema, labels: Labels, registry: RegistrySettings | None
) -> pa.RecordBatch:
    return raw if is_of_labels(raw) else parse(raw, schema, labels=labels, registry=registry)


_LOG = logging.getLogger(__name__)
#: Microseconds of clock difference without a warning.
_SKEW = 60_000_000
#: Tag of the dead letters.
DEAD = "dead_letters"
#: Tag of the transactions.
VALID = "transactions"


@dataclass
class Validate(beam.PTransform):
    """Divide parsed batches into transactions and, under the tag `DEAD`, dead letters.

    Raw batches of labels become labels and dead letters.
    """

    #: The schema of the rows.
    schema: Schema
    #: Treatment of labels.
    labels: Labels
    #: Microseconds that an event may be ahead of its arrival; None for no limit.
    ahead: int | None = None
    #: Schema registry of framed labels, or None.
    registry: RegistrySettings | None = None

    def expand(self, parsed: beam.PCollection[pa.RecordBatch]) -> beam.pvalue.DoOutputsTuple:
        """Emit two outputs."""
        step = beam.ParDo(_Validate(self.schema, self.labels, self.ahead, self.registry))
        typed = step.with_output_types(pa.RecordBatch)
        return parsed | typed.with_outputs(DEAD, main=VALID)


class _Validate(beam.DoFn):
    def __init__(
        self,
        schema: Schema,
        labels: Labels,
        ahead: int | None,
        registry: RegistrySettings | None,
    ) -> None:
        self._schema = schema
        self._registry = registry
        self._labels = labels
        self._ahead = ahead
        #: Whether the warning about rows ahead of their arrival was logged.
        self._warned_of_rows_ahead = False
        self._warned_of = set[Doubt]()

    def process(
        self, parsed: pa.RecordBatch
    ) -> Iterator[pa.RecordBatch | beam.pvalue.TaggedOutput]:
        if is_of_labels(parsed):
            valid, dead = read_labels(parsed, self._registry)
            dead, skipped = without_skipped(dead)
            count(LABELS_DEAD, len(dead))
            count(LABELS_TOMBSTONE, skipped.total())
        else:
            checked = validate_arrivals(
                parsed,
                self._schema,
                labels=self._labels,
                ahead=self._ahead,
                now=None if self._ahead is None else int(time.time() * 1_000_000),
            )
            valid, dead = checked.transactions, checked.dead
            self._tell_of_rows_ahead(parsed, checked)
            self._note_doubts(checked)
            count(ROWS_DEAD, len(dead))
            count(ROWS_TOMBSTONE, checked.skipped[TOMBSTONE])
            count(ROWS_CORRECTION, checked.skipped[CORRECTION])
            for reason, rows in Counter(dead.column("reason").to_pylist()).items():
                count(DEAD_PREFIX + reason, rows)
        if len(dead):
            yield beam.pvalue.TaggedOutput(DEAD, dead)
        yield valid

    def _note_doubts(self, checked: Arrived) -> None:
        """Count rows that were read by an assumption; in a stream, warn once of each."""
        for doubt, rows in checked.doubts.items():
            count(DOUBT_PREFIX + doubt, rows)
        if self._ahead is None:
            # The run's summary warns.
            note_span(checked.transactions)
            return
        new = {
            doubt: rows for doubt, rows in checked.doubts.items() if doubt not in self._warned_of
        }
        self._warned_of |= {doubt for doubt, rows in new.items() if rows}
        for warning in warnings_of(new, self._schema):
            _LOG.warning("%s", warning)

    def _tell_of_rows_ahead(self, parsed: pa.RecordBatch, checked: Arrived) -> None:
        """Count transactions that are ahead; warn once, dead ones included."""
        if checked.ahead is None or not (early := checked.ahead > _SKEW).any():
            return
        scored = early & ~checked.faulty
        count(ROWS_AHEAD, int(np.count_nonzero(scored)))
        dead = int(np.count_nonzero(np.array(checked.dead.column("reason")) == "future_time"))
        if self._warned_of_rows_ahead or not (scored.any() or dead):
            return
        self._warned_of_rows_ahead = True
        row = int(np.argmax(early))
        _LOG.warning(
            "%s:%d is dated %s after its arrival, and %d more rows of its batch are ahead (%d are "
            "dead letters, by --max-ahead): a clock or a time zone of their source is wrong; "
            "the summary counts all",
            sources_of(parsed)[row].as_py(),
            parsed.column(POSITION)[row].as_py(),
            str(timedelta(seconds=int(checked.ahead[row]) // 1_000_000)),
            int(np.count_nonzero(scored)) + dead - 1,
            dead,
        )


@dataclass
class OnlyLabels(beam.PTransform):
    """Drop transactions."""

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Keep labels."""
        return batches | beam.Filter(is_of_labels)


@dataclass
class OnlyTransactions(beam.PTransform):
    """Drop labels."""

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Keep transactions."""
        return batches | beam.Filter(lambda batch: not is_of_labels(batch))


class Parsed(NamedTuple):
    """Outputs of `ParseTransactions`; every record is in one of the two."""

    #: Rows of `Schema.transactions`.
    transactions: beam.PCollection[Any]
    #: Rows of `stages.DEAD_LETTER`.
    dead_letters: beam.PCollection[Any]


@dataclass
class ParseTransactions(beam.PTransform):
    """Convert any pipeline's records to validated transactions and dead letters.

    Accepts dicts, `beam.Row` and other named tuples, JSON objects as text, and
    `pyarrow.RecordBatch`. An invalid record costs only itself. A schema without a column for
    `transaction_id` reads the field of that name: records have no positions to derive an id from.
    """

    #: A schema, the name of a preset or a TOML file.
    schema: Schema | str | Path
    #: Whether labels are `ignored`, optional (`known`), or `required`.
    labels: Labels = "ignored"
    #: Form of both outputs: `rows` or `batches`.
    output: Output = "rows"

    def expand(self, records: beam.PCollection[Record]) -> Parsed:
        """Gather, parse, validate."""
        check_output(self.output)
        schema = self.schema if isinstance(self.schema, Schema) else load_schema(self.schema)
        parsed = records | ParseRecords(schema.with_ids(), self.labels)
        described = schema.with_ids().transactions(labels=self.labels)
        return Parsed(
            parsed.transactions | "Transactions" >> table_as(self.output, described),
            parsed.dead_letters | "DeadLetters" >> dead_letters_as(self.output),
        )


@dataclass
class ParseRecords(beam.PTransform):
    """Convert any pipeline's records to batches of transactions and of dead letters."""

    #: The schema of the records, with a column for `transaction_id`.
    schema: Schema
    #: Treatment of labels.
    labels: Labels

    def expand(self, records: beam.PCollection[Record]) -> Parsed:
        """Gather, parse, validate; drop positions and origin."""
        refuse_contested(self.schema, "a record of a pipeline")
        checked = (
            records
            | "Records" >> GatherRecords(self.schema, self.labels)
            | "Parse" >> Parse(self.schema, self.labels)
            | "Validate" >> Validate(self.schema, self.labels)
        )
        named = beam.Map(_without_position).with_output_types(pa.RecordBatch)
        return Parsed(checked[VALID] | "Named" >> named, checked[DEAD])


def _without_position(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.drop_columns([POSITION]).replace_schema_metadata(None)
