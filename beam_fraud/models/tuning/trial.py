"""What is asked of tuning, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from beam_fraud.models.choosing import Chosen

#: Trials that a result and a card list.
LISTED = 10


@dataclass(frozen=True)
class Tuning:
    """How long to look, and where what was found is kept."""

    #: Trials at most, that of the kind's own settings among them.
    trials: int
    #: File that every trial is written to, to go on from after an interruption.
    store: str
    #: Seconds after which no trial begins; None: only the number of trials ends it.
    budget: float | None = None
    #: Settings that stay as the kind has them.
    fixed: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Trial:
    """Settings that were tried."""

    #: From 1 on; 1 tries the kind's own settings.
    number: int
    #: The settings that were looked for.
    settings: dict[str, Any]
    #: `pruned` ended early, as worse than the median of the trials before on the folds so far;
    #: `failed` could not be fitted.
    state: Literal["complete", "pruned", "failed"]
    #: Mean average precision over the folds; None if not complete.
    average_precision: float | None
    #: What it took.
    seconds: float


@dataclass(frozen=True)
class Tuned:
    """What tuning found."""

    #: What was asked for.
    tuning: Tuning
    #: Of the proposals.
    seed: int
    #: The best settings, and how they do on the validation rows.
    chosen: Chosen
    #: All trials, also those of calls before, in the order in which they were made.
    trials: tuple[Trial, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what was asked for and found, with the best trials, as JSON-compatible values."""
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


def best_trials(trials: Sequence[Trial], most: int = LISTED) -> list[Trial]:
    """The complete trials with the highest average precision, the best first, then the earliest.

    Example:
      >>> tried = [Trial(n, {}, "complete", figure, 1.0) for n, figure in enumerate((0.1, 0.3), 1)]
      >>> [trial.number for trial in best_trials(tried)]
      [2, 1]
    """
    complete = [trial for trial in trials if trial.average_precision is not None]
    return sorted(complete, key=lambda trial: trial.average_precision or 0.0, reverse=True)[:most]


def settings_text(trial: Trial) -> str:
    """Return the settings of a trial as `--set` would take them, in one line."""
    return ", ".join(f"{name}={value}" for name, value in trial.settings.items())
