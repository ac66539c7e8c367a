"""A bundle's model inside Beam's RunInference: one prediction for the rows of several blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from apache_beam.ml.inference.sklearn_inference import ModelFileType, SklearnModelHandlerNumpy

from beam_fraud.models.bundle import MODEL_FILE, Bundle
from beam_fraud.models.loaded import shared_model
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.threads import libraries_loaded, use_one_thread

Block = npt.NDArray[np.float64]


class BundleModelHandler(SklearnModelHandlerNumpy):
    """Beam's scikit-learn handler over blocks of rows, whose model file is checked first.

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
        """Open the model if it is the very file that the launcher checked.

        Raises:
          FraudError: the file has changed since.
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
