"""The kinds of model that can be trained, one a file."""

from __future__ import annotations

import difflib

from beam_fraud.errors import UsageError
from beam_fraud.models.kinds.base import ModelKind
from beam_fraud.models.kinds.forest import Forest
from beam_fraud.models.kinds.hist_gradient_boosting import HistGradientBoosting
from beam_fraud.models.kinds.logistic import Logistic

__all__ = ["KINDS", "ModelKind", "model_kind"]

#: Name to kind with its default settings.
KINDS: dict[str, ModelKind] = {
    kind.name: kind for kind in (Logistic(), Forest(), HistGradientBoosting())
}


def model_kind(name: str) -> ModelKind:
    """The kind of this name, with its default settings.

    Raises:
      UsageError: there is none; the nearest is named.
    """
    if name in KINDS:
        return KINDS[name]
    nearest = difflib.get_close_matches(name, KINDS, n=1, cutoff=0.4)
    meant = f"did you mean {nearest[0]}? " if nearest else ""
    raise UsageError(f"--model {name}: no such kind; {meant}(kinds: {', '.join(KINDS)})")
