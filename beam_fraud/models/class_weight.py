"""The option that sets the class weight of any kind of model."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import Code, UsageError
from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds.base import ModelKind, Wrapped

#: Name of the option, for error messages.
OPTION = "--class-weight"
#: Names of the weight setting: a number, or a flag for balanced classes.
_WEIGHT, _BALANCED = "fraud_weight", "balanced"
#: Settings that the option fixes, so that tuning and `--set` may not.
WEIGHT_SETTINGS = frozenset({_WEIGHT, _BALANCED})


@dataclass(frozen=True)
class Balanced(Wrapped):
    """A kind that weighs all frauds of its rows as much as all genuine rows."""

    name: ClassVar[str] = "balanced"

    def __post_init__(self) -> None:
        """Exclude the fixed settings from tuning."""
        super().__post_init__()
        space = {name: where for name, where in self.kind.space.items() if name != _WEIGHT}
        object.__setattr__(self, "space", space)

    @property
    def settings(self) -> dict[str, Any]:
        """Return the kind's settings without the weight."""
        return {**self.kind.settings, _WEIGHT: "balanced"}

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """Return the kind's estimator with the weight for these rows."""
        return self._weighted(rows).estimator(rows, seed)

    def fit(self, rows: LabelledRows, seed: int) -> Any:
        return self._weighted(rows).fit(rows, seed)

    def validate(
        self, train: LabelledRows, valid: LabelledRows, seed: int
    ) -> tuple[Self, npt.NDArray[np.float64]]:
        kind, scores = self._weighted(train).validate(train, valid, seed)
        # Other rows need another weight, so keep all other chosen settings only.
        own = kind.with_values(**{_WEIGHT: self.kind.settings[_WEIGHT]})
        return replace(self, kind=own), scores

    def _weighted(self, rows: LabelledRows) -> ModelKind:
        frauds = int(rows.labels.sum())
        return self.kind.with_values(**{_WEIGHT: (len(rows.labels) - frauds) / frauds})


def with_class_weight(kind: ModelKind, text: str | None) -> ModelKind:
    """Return a kind with another weight of frauds; in an ensemble, set it on every member.

    Args:
      kind: the kind to train.
      text: `none`, `balanced` or the number of genuine rows that a fraud weighs; None leaves the
        kind unchanged.

    Raises:
      UsageError: the text is invalid, or the kind has no such setting.
    """
    if text is None:
        return kind
    weighted = _weighted(kind, text, _number(text))
    if weighted is None:
        raise UsageError(
            f"{OPTION} {text}: --model {kind.name} has no such setting; resample its rows "
            "(--resample) or choose another model",
            Code.MODEL_SETTING,
        )
    return weighted


def _weighted(kind: ModelKind, text: str, weight: float | None) -> ModelKind | None:
    """Return the weighted kind; None if the kind has no weight."""
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
        raise UsageError(
            f"{OPTION} {text}: --model {kind.name} knows none and balanced alone",
            Code.MODEL_SETTING,
        )
    return kind.with_values(**{_BALANCED: text == "balanced"})


def _number(text: str) -> float | None:
    """Parse the weight; None for `balanced`."""
    if text == "balanced":
        return None
    try:
        weight = 1.0 if text == "none" else float(text)
        if not 0 < weight < math.inf:
            raise ValueError(text)
    except ValueError:
        raise UsageError(
            f"{OPTION} {text}: must be none, balanced or how many genuine rows a fraud weighs as "
            "much as, above 0",
            Code.OPTION_VALUE,
        ) from None
    return weight
