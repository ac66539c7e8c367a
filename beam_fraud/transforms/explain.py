"""Add reasons to flagged rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.features.matrix import split_block
from beam_fraud.transforms.deciders import Deciders


@dataclass
class Explain(beam.PTransform):
    """Add reasons to scored rows (`stages.SCORED`), and drop their features or keep them.

    Blocks without a flagged row get no reasons.
    """

    #: What decides.
    deciders: Deciders

    def expand(self, scored: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Explain the flagged rows."""
        return scored | beam.ParDo(_Explain(self.deciders)).with_output_types(pa.RecordBatch)


class _Explain(beam.DoFn):
    def __init__(self, deciders: Deciders) -> None:
        self._deciders = deciders

    def setup(self) -> None:
        self._in_force = self._deciders.in_force()
        _ = self._in_force.current.reasons

    def process(self, scored: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        yield self._in_force.of(scored).explain(*split_block(scored))
