"""What all kinds of gradient boosting share: later rows choose how many trees there are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from beam_fraud.models.kinds.base import ModelKind
from beam_fraud.models.labelled import LabelledRows

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Boosting(ModelKind):
    """Trees that are fitted one after the other, each to what the earlier ones got wrong.

    The libraries' own early stopping looks at the loss, which a few genuine rows decide that are
    scored a little too high; here the average precision of later rows decides.
    """

    #: Trees, at most where validation rows decide.
    trees: int = 150
    #: How much average precision may be given up for fewer trees: less than its own noise.
    tolerance: float = 0.005
    #: Whether there are always that many trees: few frauds to choose by choose by chance.
    fixed: bool = False

    @abstractmethod
    def stages(self, model: Any, matrix: Floats) -> Iterator[Floats]:
        """What the first tree says of rows, the first two, and so on.

        Args:
          model: what `fit` gave.
          matrix: float64[n, features].

        Returns:
          An array of float64[n] for each number of trees up to `trees`, whose order is that of the
          scores; the same array may come again with other values.
        """

    def validate(self, train: LabelledRows, valid: LabelledRows, seed: int) -> tuple[Self, Floats]:
        """Choose the number of trees: the fewest that do about as well as the best number.

        All of them if their number is fixed.
        """
        if self.fixed:
            return super().validate(train, valid, seed)
        model = self.fit(train, seed)
        precision = np.array(
            [average_precision_score(valid.labels, s) for s in self.stages(model, valid.matrix)]
        )
        trees = int(np.argmax(precision >= precision.max() - self.tolerance)) + 1
        return replace(self, trees=trees), self.scores_of_first(trees, model, valid.matrix)

    @abstractmethod
    def scores_of_first(self, trees: int, model: Any, matrix: Floats) -> Floats:
        """Return the scores that a model of the first trees alone gives rows.

        Args:
          trees: how many, from 1 on.
          model: what `fit` gave.
          matrix: float64[n, features].

        Returns:
          float64[n] in 0..1.
        """
