"""The base of gradient boosting: validation rows choose the number of trees."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds.base import ModelKind

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Boosting(ModelKind):
    """Trees that are fitted one after another, each to the errors of the earlier ones.

    The libraries' early stopping uses the loss, which a few genuine rows with slightly too high
    scores decide; here the average precision of validation rows decides.
    """

    #: Trees; the maximum if validation rows choose.
    trees: int = 150
    #: Average precision to give up for fewer trees: less than its own noise.
    tolerance: float = 0.005
    #: Whether the number of trees is fixed: few frauds would choose it by chance.
    fixed: bool = False

    @abstractmethod
    def stages(self, model: Any, matrix: Floats) -> Iterator[Floats]:
        """Yield the raw scores of the first tree, of the first two, and so on.

        Args:
          model: the result of `fit`.
          matrix: float64[n, features].

        Returns:
          An array of float64[n] for each number of trees up to `trees`, ordered like the scores;
          the same array may be reused with new values.
        """

    def validate(self, train: LabelledRows, valid: LabelledRows, seed: int) -> tuple[Self, Floats]:
        """Choose the smallest number of trees that scores about as well as the best number.

        A fixed number stays.
        """
        if self.fixed:
            return super().validate(train, valid, seed)
        model = self.fit(train, seed)
        precision = np.array(
            [valid.average_precision(scores) for scores in self.stages(model, valid.matrix)]
        )
        trees = int(np.argmax(precision >= precision.max() - self.tolerance)) + 1
        return replace(self, trees=trees), self.scores_of_first(trees, model, valid.matrix)

    @abstractmethod
    def scores_of_first(self, trees: int, model: Any, matrix: Floats) -> Floats:
        """Return the scores that a model of the first trees alone gives rows.

        Args:
          trees: number of trees, at least 1.
          model: the result of `fit`.
          matrix: float64[n, features].

        Returns:
          float64[n] in 0..1.
        """
