"""Raw batches to columns."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.records.parse import parse
from beam_fraud.schema import Labels, Schema


@dataclass
class Parse(beam.PTransform):
    """Raw batches to parsed ones (`records.parse`)."""

    #: Which columns are wanted.
    schema: Schema
    #: What is made of labels.
    labels: Labels

    def expand(self, raw: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """One step."""
        return raw | beam.Map(parse, self.schema, labels=self.labels).with_output_types(
            pa.RecordBatch
        )
