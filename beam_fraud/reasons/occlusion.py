"""Contributions in any model, by what its score is with a feature's usual value."""

from __future__ import annotations

from typing import Any

import numpy as np

from beam_fraud.models.predict import predict_scores
from beam_fraud.reasons.explainer import Floats, Unit

#: Rows of one prediction at most, each of them a row with one feature changed.
_TOGETHER = 50_000


class OcclusionExplainer:
    """Probabilities; approximate, for what two features do together counts twice or not at all."""

    approximate = True
    unit: Unit = "probability"

    def __init__(self, model: Any, usual: Floats) -> None:
        """Remember what to put in place of values.

        Args:
          model: a classifier, as `predict_scores` takes it.
          usual: float64[features].
        """
        self._model = model
        self._usual = usual

    def contributions(self, block: Floats) -> Floats:
        """See `Explainer`; takes as many predictions a row as there are features, and one."""
        features = len(self._usual)
        step = max(1, _TOGETHER // (features + 1))
        added = np.empty(block.shape)
        for first in range(0, len(block), step):
            rows = block[first : first + step]
            # Row by row: as it is, then with each of the features changed.
            changed = np.repeat(rows[:, None, :], features + 1, axis=1)
            each = np.arange(features)
            changed[:, each + 1, each] = self._usual
            scores = predict_scores(self._model, changed.reshape(-1, features))
            scores = scores.reshape(len(rows), features + 1)
            added[first : first + step] = scores[:, :1] - scores[:, 1:]
        return added
