"""A kind of model whose rows are resampled before it is fitted on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from beam_fraud.models.kinds.base import ModelKind
from beam_fraud.models.labelled import LabelledRows
from beam_fraud.models.resampling.base import Resampler
from beam_fraud.models.resampling.tried import Tried


@dataclass(frozen=True)
class Resampled(ModelKind):
    """Another kind, with a resampler between it and the rows that it is fitted on."""

    name: ClassVar[str] = "resampled"

    #: What is trained.
    kind: ModelKind
    #: What is done to the rows; None leaves them as they are.
    resampler: Resampler | None
    #: What each resampler did to the validation rows' average precision, if they were compared.
    tried: tuple[Tried, ...] = ()

    def __post_init__(self) -> None:
        """People ask for a forest, and get a forest."""
        object.__setattr__(self, "name", self.kind.name)

    @property
    def settings(self) -> dict[str, Any]:
        """The kind's, and the resampler."""
        chosen = "none" if self.resampler is None else str(self.resampler)
        return {**self.kind.settings, "resample": chosen}

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """The kind's own: what is fitted on is not its concern."""
        return self.kind.estimator(rows, seed)

    def fit(self, rows: LabelledRows, seed: int) -> Any:
        """A classifier fitted on resampled rows."""
        if self.resampler is None:
            return self.kind.fit(rows, seed)
        return self.resampler.fit(self.kind, rows, seed)

    def files(self, model: Any) -> dict[str, bytes]:
        """The kind's own."""
        return self.kind.files(model)

    def validate(
        self, train: LabelledRows, valid: LabelledRows, seed: int
    ) -> tuple[Self, npt.NDArray[np.float64]]:
        """Choose the kind's settings, fitting on resampled rows and looking at untouched ones."""
        if self.resampler is None:
            kind, scores = self.kind.validate(train, valid, seed)
        else:
            left = self.resampler.resample(train, seed)
            kind, scores = self.resampler.validate(self.kind, train, left, valid, seed)
        return replace(self, kind=kind), scores
