"""Convert settings of a kind to Optuna's distributions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from beam_fraud.errors import Code, UsageError, extra_module
from beam_fraud.models.kinds import ModelKind
from beam_fraud.models.space import Choice, Space, Whole

#: Significant digits of a proposed number: more mean nothing, and `--set` accepts the value as
#: shown.
DIGITS = 4


def tuned_settings(kind: ModelKind, fixed: frozenset[str]) -> Space:
    """Return the search space of the settings to tune.

    Args:
      kind: the kind to tune.
      fixed: settings to keep.

    Raises:
      UsageError: no setting remains.
    """
    space = {name: where for name, where in kind.space.items() if name not in fixed}
    if not space:
        why = (
            "every setting that could be tuned is given by --set"
            if kind.space
            else "it has no settings to tune; of an ensemble, tune the members one by one"
        )
        raise UsageError(f"--tune: --model {kind.name}: {why}", Code.MODEL_SETTING)
    return space


def distributions(space: Space) -> dict[str, Any]:
    """Return the space as `optuna.distributions`."""
    known = extra_module("optuna.distributions", "--tune")
    made = {}
    for name, where in space.items():
        if isinstance(where, Choice):
            made[name] = known.CategoricalDistribution(where.values)
        elif isinstance(where, Whole):
            made[name] = known.IntDistribution(where.low, where.high, log=where.log)
        else:
            made[name] = known.FloatDistribution(where.low, where.high, log=where.log)
    return made


def rounded(settings: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Round proposed settings to few digits within their bounds.

    Example:
      >>> from beam_fraud.models.space import Real
      >>> rounded({"rate": 0.123456, "name": "a"}, {"rate": Real(0.1, 1), "name": Choice(("a",))})
      {'rate': 0.1235, 'name': 'a'}
    """
    return {name: _rounded(value, space[name]) for name, value in settings.items()}


def _rounded(value: Any, where: Any) -> Any:
    if not isinstance(value, float) or isinstance(where, Choice):
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), where.low), where.high)
