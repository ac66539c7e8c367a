"""How much a model's score depends on each feature, without labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.bundle import Bundle, shared_model
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.reference import Distribution, Reference

_LEAST = 1e-6
#: Rows of a sample that is drawn.
_ROWS = 2_000


def reference_sample(reference: Reference, features: FeatureSet) -> npt.NDArray[np.float64] | None:
    """Return rows whose features are distributed as in training, each independent of the others.

    They stand for rows where none are kept.

    Args:
      reference: of the model.
      features: the model's.

    Returns:
      float64[m, features]; None without a reference.
    """
    known = {one.feature: one for one in reference.distributions}
    if not known.keys() >= set(features.names):
        return None
    random = np.random.default_rng(0)
    return np.column_stack([_drawn(known[name], random) for name in features.names])


def _drawn(known: Distribution, random: np.random.Generator) -> npt.NDArray[np.float64]:
    counts = np.array([*known.counts, known.missing], np.float64)
    bins = random.choice(len(counts), _ROWS, p=counts / counts.sum())
    if known.kind == "categorical":
        values = np.arange(len(counts), dtype=np.float64)
    else:
        edges = np.asarray(known.edges or (0.0,), np.float64)
        # Nothing is known of the values above the last edge but that.
        values = np.append(edges, [np.nextafter(edges[-1], np.inf), np.nan])[-len(counts) :]
    values[-1] = np.nan
    drawn: npt.NDArray[np.float64] = values[bins]
    return drawn


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
