"""Score rows by models that were fitted on earlier rows only."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone

from beam_fraud.errors import Code, FraudError
from beam_fraud.models.predict import predict_scores


def forward_cuts(labels: npt.NDArray[np.int8], first: float, parts: int) -> list[int]:
    """Return the positions that cut rows in time order into a first fit and scored parts.

    Parts hold equal numbers of frauds, not of rows: every fit needs a fraud.

    Args:
      labels: int8[n] in time order, 1 is fraud.
      first: share of the frauds in the first part, which is only fitted on.
      parts: number of further parts.

    Returns:
      `parts + 1` rising positions, the last of them n.

    Raises:
      FraudError: a part would have no fraud, or a fit or a part only frauds.

    Example:
      >>> forward_cuts(np.array([0, 1, 0, 1, 0, 1, 0, 1], dtype=np.int8), 0.5, 2)
      [4, 6, 8]
    """
    frauds = np.flatnonzero(labels)
    counts = np.linspace(first, 1, parts + 1) * len(frauds)
    # A part ends after its last fraud; rows after the very last fraud belong to the last part.
    ends = [int(frauds[max(round(count), 1) - 1]) + 1 for count in counts] if len(frauds) else []
    cuts = [*ends[:-1], len(labels)]
    distinct = len(np.unique(cuts)) == parts + 1
    if not distinct or labels[: cuts[0]].all() or labels[cuts[0] :].all():
        raise FraudError(
            f"an ensemble scores rows by members that were fitted on earlier ones: {len(labels)} "
            f"rows with {len(frauds)} frauds can't be cut into {parts + 1} parts with some of each",
            Code.CLASSES_MISSING,
        )
    return cuts


def forward_scores(
    model: Any, matrix: npt.NDArray[np.float64], labels: npt.NDArray[np.int8], cuts: list[int]
) -> npt.NDArray[np.float64]:
    """Score each part by a model fitted on all parts before it.

    Args:
      model: an unfitted classifier; only its clones are fitted.
      matrix: float64[n, features] in time order.
      labels: int8[n].
      cuts: the result of `forward_cuts`.

    Returns:
      float64[n - cuts[0]]: the scores of the rows from the first cut on.
    """
    scores = [
        predict_scores(clone(model).fit(matrix[:start], labels[:start]), matrix[start:end])
        for start, end in pairwise(cuts)
    ]
    return np.concatenate(scores)
