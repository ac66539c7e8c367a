"""Features to scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.ml.inference.base import KeyedModelHandler, PredictionResult, RunInference

from beam_fraud.models.bundle import Bundle
from beam_fraud.models.handler import BundleModelHandler
from beam_fraud.transforms.features import Featured

#: Transactions, their features, float64[n, features], and their scores, float64[n].
Scored = tuple[pa.RecordBatch, np.ndarray, np.ndarray]
_Predicted = tuple[pa.RecordBatch, PredictionResult]


@dataclass
class Infer(beam.PTransform):
    """Pairs of transactions and features to the same and their scores.

    The key of RunInference is the record batch, the example its feature block.
    """

    #: The model.
    bundle: Bundle
    #: Blocks that are predicted at once, at most.
    max_blocks: int = 1

    def expand(self, featured: beam.PCollection[Featured]) -> beam.PCollection[Scored]:
        """RunInference, and its results as columns before any shuffle."""
        return (
            featured
            | RunInference(
                _ByBatch(BundleModelHandler(self.bundle, self.max_blocks))
            ).with_output_types(_Predicted)
            | "Scores" >> beam.Map(_scores).with_output_types(Scored)
        )


class _ByBatch(KeyedModelHandler):
    def get_num_bytes(self, batch: Sequence[Featured]) -> int:
        """Bytes in memory; Beam would pickle every key to learn its size."""
        return sum(transactions.nbytes + block.nbytes for transactions, block in batch)


def _scores(result: tuple[pa.RecordBatch, PredictionResult]) -> Scored:
    return result[0], result[1].example, result[1].inference
