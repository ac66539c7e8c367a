"""Raw batches to columns."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.records.parse import parse
from beam_fraud.schema import Labels, Schema
from beam_fraud.sources.raw import is_of_labels


@dataclass
class Parse(beam.PTransform):
    """Raw batches to parsed ones (`records.parse`); batches of labels stay as they are."""

    #: Which columns are wanted.
    schema: Schema
    #: What is made of labels.
    labels: Labels

    def expand(self, raw: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """One step."""
        return raw | beam.Map(_parse, self.schema, self.labels).with_output_types(pa.RecordBatch)


def _parse(raw: pa.RecordBatch, schema: Schema, labels: Labels) -> pa.RecordBatch:
    return raw if is_of_labels(raw) else parse(raw, schema, labels=labels)
