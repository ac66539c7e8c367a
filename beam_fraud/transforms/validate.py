"""Columns to transactions and dead letters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.records.labels import read_labels
from beam_fraud.records.validate import validate
from beam_fraud.schema import Labels, Schema
from beam_fraud.sources.raw import is_of_labels
from beam_fraud.transforms.counters import DEAD_PREFIX, LABELS_DEAD, ROWS_DEAD, count

#: Tag of the dead letters.
DEAD = "dead_letters"
#: Tag of the transactions.
VALID = "transactions"


@dataclass
class Validate(beam.PTransform):
    """Parsed batches to transactions and, under the tag `DEAD`, dead letters.

    Batches of labels, which come as they were read, become labels and dead letters as well.
    """

    #: What rows should be.
    schema: Schema
    #: What is made of labels.
    labels: Labels
    #: How much later than its arrival an event may be (microseconds); None for any time.
    ahead: int | None = None

    def expand(self, parsed: beam.PCollection[pa.RecordBatch]) -> beam.pvalue.DoOutputsTuple:
        """One step with two outputs."""
        step = beam.ParDo(_Validate(self.schema, self.labels, self.ahead))
        typed = step.with_output_types(pa.RecordBatch)
        return parsed | typed.with_outputs(DEAD, main=VALID)


class _Validate(beam.DoFn):
    def __init__(self, schema: Schema, labels: Labels, ahead: int | None) -> None:
        self._schema = schema
        self._labels = labels
        self._ahead = ahead

    def process(
        self, parsed: pa.RecordBatch
    ) -> Iterator[pa.RecordBatch | beam.pvalue.TaggedOutput]:
        if is_of_labels(parsed):
            valid, dead = read_labels(parsed)
            count(LABELS_DEAD, len(dead))
        else:
            valid, dead = validate(parsed, self._schema, labels=self._labels, ahead=self._ahead)
            count(ROWS_DEAD, len(dead))
            for reason, rows in Counter(dead.column("reason").to_pylist()).items():
                count(DEAD_PREFIX + reason, rows)
        if len(dead):
            yield beam.pvalue.TaggedOutput(DEAD, dead)
        yield valid
