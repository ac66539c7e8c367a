"""Optuna's view of the settings of a kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from beam_fraud.errors import UsageError, extra_module
from beam_fraud.models.kinds import ModelKind
from beam_fraud.models.space import Choice, Space, Whole

#: Digits of a number that is tried: more tell nobody anything, and `--set` takes it as it is shown.
DIGITS = 4


def tuned_settings(kind: ModelKind, fixed: frozenset[str]) -> Space:
    """Return which settings are looked for, and where.

    Args:
      kind: what is tuned.
      fixed: settings that stay as they are.

    Raises:
      UsageError: none is left.
    """
    space = {name: where for name, where in kind.space.items() if name not in fixed}
    if not space:
        why = (
            "every setting that could be tuned is given by --set"
            if kind.space
            else "it has no settings to tune; of an ensemble, tune the members one by one"
        )
        raise UsageError(f"--tune: --model {kind.name}: {why}")
    return space


def distributions(space: Space) -> dict[str, Any]:
    """Return the same as `optuna.distributions` has it."""
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
    """Settings as they are tried: numbers of few digits, within their bounds.

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
