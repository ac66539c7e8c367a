"""Which features are the reasons."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from beam_fraud.reasons.explainer import Floats

#: Features that are reasons however little they added.
LEAST = 3
#: Others added at least this share of all that raised the score.
SHARE = 0.05


def choose(contributions: Floats, most: int) -> npt.NDArray[np.int64]:
    """The features that moved each score most.

    Those that raised it come first, the largest contribution in front: three of them, and others
    that added at least 5 % of what all that raised it did. Where fewer than three raised it, those
    that lowered it most make up for them. What added nothing is no reason. Of equal contributions
    that of the first feature comes first.

    Args:
      contributions: float64[n, features].
      most: reasons a row at most.

    Returns:
      int64[n, k]: positions of features, k at most `most`; -1 where a row has fewer.
    """
    size, raised = np.abs(contributions), contributions > 0
    group = np.where(raised, 0, np.where(size > 0, 1, 2))
    order = np.lexsort((-size, group), axis=1)[:, :most].astype(np.int64)
    ranked = np.take_along_axis(contributions, order, axis=1)
    total = np.where(raised, contributions, 0.0).sum(axis=1, keepdims=True)
    first = np.arange(order.shape[1]) < LEAST
    kept = (first & (ranked != 0)) | ((ranked > 0) & (ranked >= SHARE * total))
    return np.where(kept, order, -1)
