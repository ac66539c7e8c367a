"""Options, trials and results of tuning, and the settings that it searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from beam_fraud.errors import Code, UsageError, extra_module
from beam_fraud.models.choosing import Chosen
from beam_fraud.models.kinds import ModelKind
from beam_fraud.models.kinds.base import Choice, Space, Whole

#: Maximum of trials in a result and a card.
LISTED = 10


@dataclass(frozen=True)
class Tuning:
    """Options of tuning."""

    #: Maximum of trials, the kind's own settings included.
    trials: int
    #: Journal of trials, from which an interrupted tuning continues.
    store: str
    #: Seconds after which no trial begins; None for no limit.
    budget: float | None = None
    #: Settings to keep.
    fixed: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Trial:
    """A trial of settings."""

    #: Number from 1; trial 1 has the kind's own settings.
    number: int
    #: The tuned settings.
    settings: dict[str, Any]
    #: `pruned` ended early, because it was worse than the median of earlier trials on the folds so
    #: far; `failed` could not be fitted.
    state: Literal["complete", "pruned", "failed"]
    #: Mean average precision over the folds; None unless complete.
    average_precision: float | None
    #: Seconds it took.
    seconds: float


@dataclass(frozen=True)
class Tuned:
    """Result of tuning."""

    #: The options.
    tuning: Tuning
    #: Seed of the proposals.
    seed: int
    #: The best settings and their results on the validation rows.
    chosen: Chosen
    #: All trials in order, those of earlier calls included.
    trials: tuple[Trial, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return options, result and best trials as JSON-compatible values."""
        best = best_trials(self.trials)
        return {
            "asked": self.tuning.trials,
            "budget_seconds": self.tuning.budget,
            "seed": self.seed,
            "trials": len(self.trials),
            "pruned": sum(trial.state == "pruned" for trial in self.trials),
            "failed": sum(trial.state == "failed" for trial in self.trials),
            "seconds": round(sum(trial.seconds for trial in self.trials), 3),
            "own_average_precision": self.trials[0].average_precision,
            "best_average_precision": best[0].average_precision,
            "best_trials": [asdict(trial) for trial in best],
        }


def best_trials(trials: Sequence[Trial]) -> list[Trial]:
    """Return the complete trials of the highest average precision, best first, then earliest.

    Example:
      >>> tried = [Trial(n, {}, "complete", figure, 1.0) for n, figure in enumerate((0.1, 0.3), 1)]
      >>> [trial.number for trial in best_trials(tried)]
      [2, 1]
    """
    complete = [trial for trial in trials if trial.average_precision is not None]
    return sorted(complete, key=lambda trial: trial.average_precision or 0.0, reverse=True)[:LISTED]


def settings_text(trial: Trial) -> str:
    """Format the settings of a trial for `--set`, on one line."""
    return ", ".join(f"{name}={value}" for name, value in trial.settings.items())


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
    distributions = {}
    for name, where in space.items():
        if isinstance(where, Choice):
            distributions[name] = known.CategoricalDistribution(where.values)
        elif isinstance(where, Whole):
            distributions[name] = known.IntDistribution(where.low, where.high, log=where.log)
        else:
            distributions[name] = known.FloatDistribution(where.low, where.high, log=where.log)
    return distributions


def rounded(settings: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Round proposed settings to few digits within their bounds.

    Example:
      >>> from beam_fraud.models.kinds.base import Real
      >>> rounded({"rate": 0.123456, "name": "a"}, {"rate": Real(0.1, 1), "name": Choice(("a",))})
      {'rate': 0.1235, 'name': 'a'}
    """
    return {name: _rounded(value, space[name]) for name, value in settings.items()}


def _rounded(value: Any, where: Any) -> Any:
    if not isinstance(value, float) or isinstance(where, Choice):
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), where.low), where.high)
