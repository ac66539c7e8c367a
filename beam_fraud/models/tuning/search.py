"""The trials of one kind, each proposed from those before."""

from __future__ import annotations

import logging
import statistics
import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from beam_fraud.extras import extra_module
from beam_fraud.models.choosing import AfterFold, choose
from beam_fraud.models.examples import FoldRows
from beam_fraud.models.kinds import ModelKind
from beam_fraud.models.space import Space
from beam_fraud.models.tuning.suggest import distributions, rounded
from beam_fraud.models.tuning.trial import Trial

_log = logging.getLogger(__name__)
#: Complete trials before any is pruned.
UNPRUNED_TRIALS = 5
#: Folds before a trial is pruned: what one fold says is mostly noise.
UNPRUNED_FOLDS = 2

_STATES: dict[str, Literal["complete", "pruned", "failed"]] = {
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
}
#: What a trial keeps of itself beside its settings and its figure.
_SECONDS, _FOLDS = "seconds", "average_precision_of_folds"


class _PrunedError(Exception):
    """The trial is not worth its other folds."""


@dataclass(frozen=True)
class Search:
    """Where settings are looked for, and what was tried so far."""

    #: The `optuna.Study` that keeps the trials.
    study: Any
    #: With its own settings.
    kind: ModelKind
    #: The folds.
    rows: FoldRows
    #: Of everything random.
    seed: int
    #: The settings that are looked for.
    space: Space

    def trials(self) -> tuple[Trial, ...]:
        """The trials so far, without those that were interrupted."""
        return tuple(
            Trial(
                number=number,
                settings=self._settings(number, kept.params),
                state=_STATES[kept.state.name],
                average_precision=kept.value if kept.state.name == "COMPLETE" else None,
                seconds=kept.user_attrs[_SECONDS],
            )
            for number, kept in enumerate(self._kept(), 1)
        )

    def next_trial(self) -> None:
        """Make one more trial and keep it."""
        states = extra_module("optuna", "--tune").trial.TrialState
        number = len(self._kept()) + 1
        proposed = self._propose(number)
        kind = self.kind.with_values(**self._settings(number, proposed.params))
        start = time.monotonic()
        state, figure = states.PRUNED, None
        try:
            figure = choose(kind, self.rows, self.seed, self._watch(proposed, number)).mean
            state = states.COMPLETE
        except _PrunedError:
            pass
        except Exception as error:
            if number == 1:
                raise
            # Settings that don't go together cost their trial, not the night.
            _log.warning("trial %d failed: %s", number, str(error).partition("\n")[0])
            state = states.FAIL
        proposed.set_user_attr(_SECONDS, round(time.monotonic() - start, 3))
        self.study.tell(proposed, figure, state=state)

    def _kept(self) -> list[Any]:
        # A trial that was interrupted has not come to know how long it took.
        trials = self.study.get_trials(deepcopy=False)
        return [t for t in trials if _SECONDS in t.user_attrs and t.state.name in _STATES]

    def _propose(self, number: int) -> Any:
        optuna = extra_module("optuna", "--tune")
        # Seeded anew for each trial, so that it does not matter where a call was interrupted.
        (seed,) = np.random.SeedSequence([self.seed, number]).generate_state(1)
        self.study.sampler = optuna.samplers.TPESampler(seed=int(seed))
        self.study.pruner = optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED_TRIALS)
        if number == 1:
            self.study.enqueue_trial(self._settings(1, {}), skip_if_exists=True)
        return self.study.ask(distributions(self.space))

    def _settings(self, number: int, proposed: dict[str, Any]) -> dict[str, Any]:
        if number == 1:
            return {name: self.kind.settings[name] for name in self.space}
        return rounded(proposed, self.space)

    def _watch(self, proposed: Any, number: int) -> AfterFold:
        """Tell the pruner after each fold how much better this is than the kind's own settings.

        Folds differ more from each other than settings do, so their own figures would say little.
        """
        figures: list[float] = []
        own = self._kept()[0].user_attrs[_FOLDS] if number > 1 else figures

        def after(fold: int, average_precision: float) -> None:
            figures.append(average_precision)
            done = fold + 1
            if done >= UNPRUNED_FOLDS:
                proposed.report(statistics.fmean(figures) - statistics.fmean(own[:done]), fold)
            if done == len(self.rows):
                proposed.set_user_attr(_FOLDS, figures)
            elif proposed.should_prune():
                raise _PrunedError

        return after
