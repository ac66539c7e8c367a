"""Score features by a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from apache_beam.ml.inference.base import KeyedModelHandler, PredictionResult, RunInference
from apache_beam.ml.inference.sklearn_inference import ModelFileType, SklearnModelHandlerNumpy

from beam_fraud.models.bundle import MODEL_FILE, Bundle, shared_model
from beam_fraud.models.predict import libraries_loaded, predict_scores, use_one_thread
from beam_fraud.transforms.deciders import Deciders, InForce
from beam_fraud.transforms.features import Featured

Block = npt.NDArray[np.float64]


class BundleModelHandler(SklearnModelHandlerNumpy):
    """Beam's scikit-learn handler for blocks of rows, which checks the model file first.

    One prediction serves the rows of several blocks.

    An example is a block: float64[n, features]. Its inference is float64[n], the scores.
    """

    def __init__(self, bundle: Bundle, max_blocks: int = 1) -> None:
        super().__init__(
            model_uri=f"{bundle.path}/{MODEL_FILE}",
            model_file_type=ModelFileType.JOBLIB,
            inference_fn=score_blocks,
            min_batch_size=1,
            max_batch_size=max_blocks,
        )
        self._bundle = bundle

    def load_model(self) -> Any:
        """Open the model after checking that it is the file that the launcher checked.

        Raises:
          FraudError: the file has changed.
        """
        model = shared_model(self._bundle)
        libraries_loaded()
        return model


def score_blocks(
    model: Any, blocks: Sequence[Block], inference_args: dict[str, Any] | None = None
) -> list[Block]:
    """Predict the rows of several blocks at once.

    Args:
      model: a fitted classifier.
      blocks: float64[n_i, features] each.
      inference_args: unused; RunInference passes it.

    Returns:
      float64[n_i] each: the probabilities of fraud.
    """
    use_one_thread()
    scores = predict_scores(model, blocks[0] if len(blocks) == 1 else np.concatenate(blocks))
    return np.split(scores, np.cumsum([len(block) for block in blocks])[:-1])


#: Transactions, their features, float64[n, features], and their scores, float64[n].
Scored = tuple[pa.RecordBatch, np.ndarray, np.ndarray]
_Predicted = tuple[pa.RecordBatch, PredictionResult]


@dataclass
class Infer(beam.PTransform):
    """Add scores to pairs of transactions and features.

    The key of RunInference is the record batch, the example its feature block.
    """

    #: What decides.
    deciders: Deciders
    #: Maximum of blocks per prediction.
    max_blocks: int = 1

    def expand(self, featured: beam.PCollection[Featured]) -> beam.PCollection[Scored]:
        """Run RunInference, and convert its results to columns before any shuffle."""
        return (
            featured
            | RunInference(DecidersHandler(self.deciders, self.max_blocks)).with_output_types(
                _Predicted
            )
            | "Scores" >> beam.Map(_scores).with_output_types(Scored)
        )


class DecidersHandler(KeyedModelHandler):
    """Predict each block by the model of its batch; blocks of one model share a prediction."""

    def __init__(self, deciders: Deciders, max_blocks: int) -> None:
        super().__init__(BundleModelHandler(deciders.first.bundle, max_blocks))
        self._deciders = deciders

    def load_model(self) -> InForce:
        """Return what is in force in this process, with the model opened."""
        in_force = self._deciders.in_force()
        _ = in_force.current.model
        return in_force

    def run_inference(
        self,
        batch: Sequence[Featured],
        model: InForce,
        inference_args: dict[str, Any] | None = None,
    ) -> Iterator[_Predicted]:
        """Yield the batches with their scores, in order."""
        for decider, pairs in groupby(batch, lambda pair: model.of(pair[0])):
            batches, blocks = zip(*pairs, strict=True)
            model_id = decider.decider.bundle.model_id
            scores = score_blocks(decider.model, blocks, inference_args)
            for transactions, block, own in zip(batches, blocks, scores, strict=True):
                yield transactions, PredictionResult(block, own, model_id)

    def get_num_bytes(self, batch: Sequence[Featured]) -> int:
        """Return the bytes in memory; Beam would pickle every key to learn its size."""
        return sum(transactions.nbytes + block.nbytes for transactions, block in batch)


def _scores(result: tuple[pa.RecordBatch, PredictionResult]) -> Scored:
    return result[0], result[1].example, result[1].inference
