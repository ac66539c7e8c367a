"""Try settings, one trial after the other, and take the best."""

from __future__ import annotations

import logging
import time

from beam_fraud.activity import doing
from beam_fraud.models.choosing import choose
from beam_fraud.models.examples import FoldRows
from beam_fraud.models.kinds import ModelKind
from beam_fraud.models.tuning.fingerprint import fingerprint
from beam_fraud.models.tuning.search import Search
from beam_fraud.models.tuning.store import study_in
from beam_fraud.models.tuning.suggest import tuned_settings
from beam_fraud.models.tuning.trial import Trial, Tuned, Tuning, best_trials, settings_text

_log = logging.getLogger(__name__)


def tune(kind: ModelKind, rows: FoldRows, seed: int, tuning: Tuning, recipe: str = "") -> Tuned:
    """Look for settings with a higher mean average precision over the folds.

    The kind's own settings are the first trial, so the best can't be worse than they are. A
    proposal depends on the seed and the trials before alone: a call that goes on where another was
    interrupted makes the same trials.

    Args:
      kind: with its own settings.
      rows: the folds, of both classes each.
      seed: of everything random.
      tuning: how long to look, and where trials are kept.
      recipe: what else the figures depend on, in any form that is the same for the same.

    Raises:
      UsageError: the kind has no settings to tune.
      FraudError: Optuna is not installed, or trials can't be kept in `tuning.store`.
    """
    space = tuned_settings(kind, tuning.fixed)
    what = fingerprint(f"{kind!r} {space!r} {seed} {recipe}", rows)
    with study_in(tuning.store, what) as study:
        search = Search(study, kind, rows, seed, space)
        try:
            trials = _look(search, tuning)
        except KeyboardInterrupt:
            kept = len(search.trials())
            _log.warning(
                "%d trials are kept in %s: the same call goes on from there", kept, tuning.store
            )
            raise
    best = best_trials(trials)[0]
    _log.info("trial %d is the best of %d", best.number, len(trials))
    return Tuned(tuning, seed, choose(kind.with_values(**best.settings), rows, seed), trials)


def _look(search: Search, tuning: Tuning) -> tuple[Trial, ...]:
    start = time.monotonic()
    trials = search.trials()
    _log.info(
        "tuning %s of %s: at most %d trials%s, %d folds, seed %d; %d trials are in %s",
        ", ".join(search.space),
        search.kind.name,
        tuning.trials,
        "" if tuning.budget is None else f" in {tuning.budget:g} s",
        len(search.rows),
        search.seed,
        len(trials),
        tuning.store,
    )
    while len(trials) < tuning.trials:
        if trials and tuning.budget is not None and time.monotonic() - start >= tuning.budget:
            _log.info("the time for tuning is over after %d trials", len(trials))
            break
        with doing(f"trial {len(trials)} of {tuning.trials}"):
            search.next_trial()
        trials = search.trials()
        _log.info("%s", _progress(trials, tuning))
    return trials


def _progress(trials: tuple[Trial, ...], tuning: Tuning) -> str:
    last, best = trials[-1], best_trials(trials)[0]
    figure = last.state if last.average_precision is None else f"{last.average_precision:.4f}"
    return (
        f"trial {last.number} of {tuning.trials}: {figure} in {last.seconds:.1f} s "
        f"({settings_text(last)}); the best is {best.average_precision:.4f}, trial "
        f"{best.number}"
    )
