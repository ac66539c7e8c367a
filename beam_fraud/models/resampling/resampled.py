"""A kind of model whose rows are resampled before it is fitted on them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import UsageError
from beam_fraud.models.kinds.base import ModelKind, Wrapped
from beam_fraud.models.labelled import LabelledRows
from beam_fraud.models.resampling.base import OPTION, Resampler


@dataclass(frozen=True)
class Resampled(Wrapped):
    """Another kind, with a resampler between it and the rows that it is fitted on."""

    name: ClassVar[str] = "resampled"

    #: What is done to the rows.
    resampler: Resampler
    #: How many rows, and frauds among them, the kind was given to fit on by `validate`.
    fitted_on: tuple[int, int] | None = field(default=None, compare=False, repr=False)

    def check_packages(self) -> None:
        """The resampler's, then the kind's."""
        self.resampler.check_packages()
        super().check_packages()

    @property
    def settings(self) -> dict[str, Any]:
        """The kind's, and the resampler."""
        return {**self.kind.settings, "resample": str(self.resampler)}

    def files(self, model: Any) -> dict[str, bytes]:
        """Return the kind's own, if the model is one of the kind."""
        return self.resampler.files(self.kind, model)

    def fit(self, rows: LabelledRows, seed: int) -> Any:
        """Return a classifier fitted on resampled rows."""
        return self.resampler.fit(self.kind, rows, seed)

    def validate(
        self, train: LabelledRows, valid: LabelledRows, seed: int
    ) -> tuple[Self, npt.NDArray[np.float64]]:
        """Choose the kind's settings, fitting on resampled rows and looking at untouched ones."""
        rows = self.resampler.resample(train, seed)
        kind, scores = self.resampler.validate(self.kind, train, rows, valid, seed)
        sizes = len(rows.labels), int(rows.labels.sum())
        return replace(self, kind=kind, fitted_on=sizes), scores


def with_resampler(kind: ModelKind, resampler: Resampler | None) -> ModelKind:
    """Return a kind whose rows are resampled; every member's own where the kind is an ensemble.

    An ensemble needs the rows as they are: stacking learns in the order of time, in which what is
    made up has no place.

    Raises:
      UsageError: the kind learns from no labels.
    """
    if resampler is None:
        return kind
    for name, part in kind.parts.items():
        if part.supervised:
            kind = kind.with_part(name, with_resampler(part, resampler))
    if kind.parts:
        return kind
    if not kind.supervised:
        raise UsageError(f"{OPTION} {resampler}: {kind.name} learns from no labels")
    return Resampled(kind, resampler)


def resamplers_of(kind: ModelKind) -> tuple[Resampler, ...]:
    """Return the resamplers that `with_resampler` gave a kind and its members, each once."""
    own = (kind.resampler,) if isinstance(kind, Resampled) else ()
    inner = (found for part in kind.parts.values() for found in resamplers_of(part))
    return tuple(dict.fromkeys((*own, *inner)))


def rows_fitted_on(kind: ModelKind) -> tuple[int, int] | None:
    """Rows, and frauds among them, that a resampler made for the kind or its first member."""
    if isinstance(kind, Resampled):
        return kind.fitted_on
    return next(filter(None, map(rows_fitted_on, kind.parts.values())), None)
