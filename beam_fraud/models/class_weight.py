"""How many genuine rows a fraud weighs as much as, whatever a kind would choose itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import UsageError
from beam_fraud.models.kinds.base import ModelKind, Wrapped
from beam_fraud.models.labelled import LabelledRows

#: What asks for it, in messages.
OPTION = "--class-weight"
#: The setting of kinds that weigh frauds, and the one of those that weigh them alike or not.
_WEIGHT, _BALANCED = "fraud_weight", "balanced"
#: Settings that the option decides, so that nothing else may.
WEIGHT_SETTINGS = frozenset({_WEIGHT, _BALANCED})


@dataclass(frozen=True)
class Balanced(Wrapped):
    """A kind to which the frauds of any rows weigh as much as all genuine ones together."""

    name: ClassVar[str] = "balanced"

    def __post_init__(self) -> None:
        """What is fixed is not tuned."""
        super().__post_init__()
        space = {name: where for name, where in self.kind.space.items() if name != _WEIGHT}
        object.__setattr__(self, "space", space)

    @property
    def settings(self) -> dict[str, Any]:
        """The kind's, but for the weight."""
        return {**self.kind.settings, _WEIGHT: "balanced"}

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """Return the kind's own with the weight that these rows call for."""
        return self._weighted(rows).estimator(rows, seed)

    def fit(self, rows: LabelledRows, seed: int) -> Any:
        return self._weighted(rows).fit(rows, seed)

    def validate(
        self, train: LabelledRows, valid: LabelledRows, seed: int
    ) -> tuple[Self, npt.NDArray[np.float64]]:
        kind, scores = self._weighted(train).validate(train, valid, seed)
        # Other rows call for another weight: what was chosen is all the rest.
        own = kind.with_values(**{_WEIGHT: self.kind.settings[_WEIGHT]})
        return replace(self, kind=own), scores

    def _weighted(self, rows: LabelledRows) -> ModelKind:
        frauds = int(rows.labels.sum())
        return self.kind.with_values(**{_WEIGHT: (len(rows.labels) - frauds) / frauds})


def with_class_weight(kind: ModelKind, text: str | None) -> ModelKind:
    """Return a kind with another weight of frauds; of an ensemble, all members that have one.

    Args:
      kind: what is trained.
      text: `none`, `balanced` or how many genuine rows a fraud weighs as much as; None leaves the
        kind as it is.

    Raises:
      UsageError: it is none of these, or the kind has no such setting.
    """
    if text is None:
        return kind
    weighted = _weighted(kind, text, _number(text))
    if weighted is None:
        raise UsageError(
            f"{OPTION} {text}: --model {kind.name} has no such setting; resample its rows "
            "(--resample) or choose another model"
        )
    return weighted


def _weighted(kind: ModelKind, text: str, weight: float | None) -> ModelKind | None:
    """None where the kind weighs nothing."""
    if kind.parts:
        members = {name: _weighted(part, text, weight) for name, part in kind.parts.items()}
        for name, member in members.items():
            kind = kind if member is None else kind.with_part(name, member)
        return kind if any(members.values()) else None
    names = {field.name for field in fields(kind)}
    if _WEIGHT in names:
        return Balanced(kind) if weight is None else kind.with_values(**{_WEIGHT: weight})
    if _BALANCED not in names:
        return None
    if text not in ("none", "balanced"):
        raise UsageError(f"{OPTION} {text}: --model {kind.name} knows none and balanced alone")
    return kind.with_values(**{_BALANCED: text == "balanced"})


def _number(text: str) -> float | None:
    """Return the weight; None for `balanced`."""
    if text == "balanced":
        return None
    try:
        weight = 1.0 if text == "none" else float(text)
        if not 0 < weight < math.inf:
            raise ValueError(text)
    except ValueError:
        raise UsageError(
            f"{OPTION} {text}: must be none, balanced or how many genuine rows a fraud weighs as "
            "much as, above 0"
        ) from None
    return weight
