"""Transactions and labels, which go the same way for a while, told apart."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.sources.raw import is_of_labels


@dataclass
class OnlyLabels(beam.PTransform):
    """Leaves transactions out."""

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """One step."""
        return batches | beam.Filter(is_of_labels)


@dataclass
class OnlyTransactions(beam.PTransform):
    """Leaves labels out."""

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """One step."""
        return batches | beam.Filter(lambda batch: not is_of_labels(batch))
