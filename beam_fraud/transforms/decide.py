"""Scores to decisions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.decision import decide
from beam_fraud.features.block import append_block
from beam_fraud.models.manifest import Thresholds
from beam_fraud.transforms.counters import ROWS_FLAGGED, ROWS_SCORED, count
from beam_fraud.transforms.infer import Scored


@dataclass
class Decide(beam.PTransform):
    """Transactions, features and scores to scored rows (`stages.SCORED`) with their features.

    The features (`features.block`) stay beside the rows until `Explain` has said what they did.
    """

    #: The scores from which a transaction is reviewed or declined.
    thresholds: Thresholds
    #: The model that gave the scores.
    model_id: str

    def expand(self, scored: beam.PCollection[Scored]) -> beam.PCollection[pa.RecordBatch]:
        """One step."""
        return scored | beam.Map(_decide, self.thresholds, self.model_id).with_output_types(
            pa.RecordBatch
        )


@dataclass
class Flagged(beam.PTransform):
    """Scored rows to those that are flagged."""

    def expand(self, scored: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """One step; blocks without any go no further."""
        return scored | beam.FlatMap(_flagged).with_output_types(pa.RecordBatch)


def _decide(scored: Scored, thresholds: Thresholds, model_id: str) -> pa.RecordBatch:
    transactions, block, scores = scored
    count(ROWS_SCORED, len(transactions))
    return append_block(decide(transactions, scores, thresholds, model_id), block)


def _flagged(scored: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    flagged = scored.filter(scored.column("flagged"))
    if len(flagged):
        count(ROWS_FLAGGED, len(flagged))
        yield flagged
