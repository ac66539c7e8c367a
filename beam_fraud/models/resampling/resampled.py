"""A kind of model whose training rows are resampled."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import Code, UsageError
from beam_fraud.models.kinds.base import ModelKind, Wrapped
from beam_fraud.models.labelled import LabelledRows
from beam_fraud.models.resampling.base import OPTION, Resampler


@dataclass(frozen=True)
class Resampled(Wrapped):
    """A wrapper that resamples the training rows of its kind."""

    name: ClassVar[str] = "resampled"

    #: The resampler.
    resampler: Resampler
    #: Rows, and frauds among them, that `validate` fitted the kind on.
    fitted_on: tuple[int, int] | None = field(default=None, compare=False, repr=False)

    def check_packages(self) -> None:
        """Check the packages of the resampler, then of the kind."""
        self.resampler.check_packages()
        super().check_packages()

    @property
    def settings(self) -> dict[str, Any]:
        """Return the kind's settings and the resampler."""
        return {**self.kind.settings, "resample": str(self.resampler)}

    def files(self, model: Any) -> dict[str, bytes]:
        """Return the kind's files, if the model is the kind's."""
        return self.resampler.files(self.kind, model)

    def fit(self, rows: LabelledRows, seed: int) -> Any:
        """Return a classifier fitted on resampled rows."""
        return self.resampler.fit(self.kind, rows, seed)

    def validate(
        self, train: LabelledRows, valid: LabelledRows, seed: int
    ) -> tuple[Self, npt.NDArray[np.float64]]:
        """Choose the kind's settings: fit on resampled rows, score untouched ones."""
        rows = self.resampler.resample(train, seed)
        kind, scores = self.resampler.validate(self.kind, train, rows, valid, seed)
        sizes = len(rows.labels), int(rows.labels.sum())
        return replace(self, kind=kind, fitted_on=sizes), scores


def with_resampler(kind: ModelKind, resampler: Resampler | None) -> ModelKind:
    """Return a kind with resampled training rows; in an ensemble, each member resamples.

    An ensemble itself needs the original rows: stacking learns in time order, which synthetic rows
    do not have.

    Raises:
      UsageError: the kind ignores labels.
    """
    if resampler is None:
        return kind
    for name, part in kind.parts.items():
        if part.supervised:
            kind = kind.with_part(name, with_resampler(part, resampler))
    if kind.parts:
        return kind
    if not kind.supervised:
        raise UsageError(
            f"{OPTION} {resampler}: {kind.name} learns from no labels", Code.RESAMPLING_IMPOSSIBLE
        )
    return Resampled(kind, resampler)


def resamplers_of(kind: ModelKind) -> tuple[Resampler, ...]:
    """Return the distinct resamplers of a kind and its members."""
    own = (kind.resampler,) if isinstance(kind, Resampled) else ()
    inner = (found for part in kind.parts.values() for found in resamplers_of(part))
    return tuple(dict.fromkeys((*own, *inner)))


def rows_fitted_on(kind: ModelKind) -> tuple[int, int] | None:
    """Return the resampled rows, and frauds among them, of the kind or its first member."""
    if isinstance(kind, Resampled):
        return kind.fitted_on
    return next(filter(None, map(rows_fitted_on, kind.parts.values())), None)
