"""A kind of model that records its rows, identified by the feature `row`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds import ModelKind
from beam_fraud.models.kinds.base import Real, Space

#: Position in the matrix of the number of the row, and of what tells frauds.
ROW, TELLING, MISLEADING = 0, 1, 2


class Given(NamedTuple):
    """Rows of a fit (`fit`) or a prediction (`predict`)."""

    doing: str
    rows: list[int]
    #: Of a prediction, the scores it gave.
    scores: list[float]


#: All that any spy was given, in order; a test clears it.
seen: list[Given] = []


class SpyingModel:
    """Scores by one column, unless another column misleads it."""

    classes_ = np.array([0, 1])

    def __init__(self, misled: float) -> None:
        self.misled = misled

    def predict_proba(self, matrix: np.ndarray) -> np.ndarray:
        message = (1 - self.misled) * matrix[:, TELLING] + self.misled * matrix[:, MISLEADING]
        scores = 1 / (1 + np.exp(-message))
        seen.append(Given("predict", matrix[:, ROW].astype(int).tolist(), scores.tolist()))
        return np.column_stack([1 - scores, scores])


@dataclass(frozen=True)
class Spy(ModelKind):
    """A kind that fits at once and records the rows."""

    name: ClassVar[str] = "spy"
    space: ClassVar[Space] = {"misled": Real(0.0, 1.0), "unused": Real(0.001, 1.0, log=True)}

    #: How much the misleading column counts.
    misled: float = 0.7
    #: Nothing.
    unused: float = 0.5

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        raise NotImplementedError

    def fit(self, rows: LabelledRows, seed: int) -> Any:
        seen.append(Given("fit", rows.matrix[:, ROW].astype(int).tolist(), []))
        return SpyingModel(self.misled)
