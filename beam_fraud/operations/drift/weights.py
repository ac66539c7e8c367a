"""How much a model's score depends on each feature, without labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from beam_fraud.models.bundle import Bundle, shared_model
from beam_fraud.models.predict import predict_scores

_LEAST = 1e-6


def score_weights(bundle: Bundle, sample: npt.NDArray[np.float64] | None) -> Mapping[str, float]:
    """Return the weight of each feature: how far scores move if its values are shuffled.

    The move is that of the log-odds, because nearly all scores are near 0. It needs no labels, as
    the permutation importance of `evaluate` does.

    Args:
      bundle: the model.
      sample: float64[m, features] of archived rows; None if they keep no features.

    Returns:
      Feature to its mean move, as a share of the largest one; empty without a sample.

    Raises:
      FraudError: the model cannot be opened.
    """
    if sample is None or len(sample) < 2:
        return {}
    model = shared_model(bundle)
    random = np.random.default_rng(0)
    with threadpool_limits(1):
        base = _log_odds(predict_scores(model, sample))
        moves = []
        for place in range(sample.shape[1]):
            shuffled = sample.copy()
            shuffled[:, place] = random.permutation(shuffled[:, place])
            moves.append(np.abs(_log_odds(predict_scores(model, shuffled)) - base).mean())
    largest = max(*moves, 0.0)
    return {
        name: float(move / largest) if largest > 0 else 0.0
        for name, move in zip(bundle.features.names, moves, strict=True)
    }


def _log_odds(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    clipped = np.clip(scores, _LEAST, 1 - _LEAST)
    odds: npt.NDArray[np.float64] = np.log(clipped / (1 - clipped))
    return odds
