"""Several models of the same features, which share their input and most of a prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.bundle import Bundle, read_reference, shared_model
from beam_fraud.models.small_blocks.joined_models import JoinedModels
from beam_fraud.models.small_blocks.predictor import Predictor, probing_rows

Block = npt.NDArray[np.float64]
T = TypeVar("T")


def of_one_block(items: Iterable[T], features: Callable[[T], FeatureSet]) -> list[list[T]]:
    """Group items whose features make the same block, in the order of their first."""
    groups: list[list[T]] = []
    for item in items:
        own = features(item)
        group = next((one for one in groups if features(one[0]).same_block(own)), None)
        if group is None:
            groups.append([item])
        else:
            group.append(item)
    return groups


@dataclass(frozen=True)
class ModelGroup:
    """Loaded models of the same features."""

    #: Predicts by one model each.
    predictors: tuple[Predictor, ...]
    #: Predicts by all models at once, or None.
    joined: JoinedModels | None

    @classmethod
    def of(cls, bundles: Sequence[Bundle]) -> ModelGroup:
        """Load the models of bundles, one or more, whose features make the same block.

        Raises:
          FraudError: a model cannot be opened.
        """
        loaded = [shared_model(bundle) for bundle in bundles]
        probe = probing_rows(read_reference(bundles[0]), bundles[0].features)
        joined = JoinedModels.of(loaded, probe)
        return cls(tuple(Predictor.of(model, probe) for model in loaded), joined)

    def predict(self, block: Block) -> list[Block]:
        """Return the scores of each model, float64[n], of float64[n, features].

        As before `predict_scores`, `use_one_thread` limits the threads of a calling thread.
        """
        if self.joined is not None:
            return self.joined(block)
        return [predictor(block) for predictor in self.predictors]
