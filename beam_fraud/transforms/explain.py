"""Add reasons to flagged rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa
from apache_beam.utils.shared import Shared

from beam_fraud.decisions.reasons.reasons import Reasons
from beam_fraud.features.matrix import split_block
from beam_fraud.models.bundle import Bundle
from beam_fraud.models.predict import libraries_loaded, use_one_thread


@dataclass
class Explain(beam.PTransform):
    """Add reasons to scored rows (`stages.SCORED`) and drop their features.

    Blocks without a flagged row only lose their features (`features.block`).
    """

    #: The bundle that scored.
    bundle: Bundle
    #: Maximum of reasons per row; 0 for none.
    most: int

    def expand(self, scored: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """One step."""
        if not self.most:
            return scored | beam.Map(_without_features).with_output_types(pa.RecordBatch)
        return scored | beam.ParDo(_Explain(self.bundle, self.most)).with_output_types(
            pa.RecordBatch
        )


class _Explain(beam.DoFn):
    def __init__(self, bundle: Bundle, most: int) -> None:
        self._bundle = bundle
        self._most = most
        # One explainer per process, shared by its threads.
        self._shared = Shared()

    def setup(self) -> None:
        self._reasons = self._shared.acquire(self._load)

    def process(self, scored: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        use_one_thread()
        yield self._reasons.add(*split_block(scored))

    def _load(self) -> Reasons:
        reasons = Reasons.of(self._bundle, self._most)
        libraries_loaded()
        return reasons


def _without_features(scored: pa.RecordBatch) -> pa.RecordBatch:
    return split_block(scored)[0]
