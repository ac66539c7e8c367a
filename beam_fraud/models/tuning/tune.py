"""Tune settings trial by trial, keep each trial in a journal, and take the best."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from beam_fraud.errors import Code, FraudError, extra_module
from beam_fraud.models.choosing import AfterFold, choose
from beam_fraud.models.examples import FoldRows
from beam_fraud.models.kinds import ModelKind
from beam_fraud.models.kinds.base import Space
from beam_fraud.models.tuning.trial import (
    Trial,
    Tuned,
    Tuning,
    best_trials,
    distributions,
    rounded,
    settings_text,
    tuned_settings,
)
from beam_fraud.monitoring.activity import doing
from beam_fraud.storage.lock import lock
from beam_fraud.wording import first_line

_STUDY = "tuning"
_FINGERPRINT = "fingerprint"


@contextmanager
def study_in(path: str, fingerprint: str) -> Iterator[Any]:
    """Open Optuna's study in a journal file, locked against other processes.

    Args:
      path: path of the file, created if missing.
      fingerprint: fingerprint of the tuning.

    Returns:
      The `optuna.Study`. Unfinished trials of earlier calls are marked as failed.

    Raises:
      FraudError: the file cannot be written, is no journal, is in use, or has trials of another
        fingerprint.
    """
    optuna = extra_module("optuna", "--tune")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with _held(path):
        _mend(path)
        journal = extra_module("optuna.storages.journal", "--tune")
        storage = optuna.storages.JournalStorage(journal.JournalFileBackend(path, _Locked()))
        if _STUDY in optuna.get_all_study_names(storage):
            study = optuna.load_study(study_name=_STUDY, storage=storage)
        else:
            study = optuna.create_study(storage=storage, study_name=_STUDY, direction="maximize")
        known = study.user_attrs.get(_FINGERPRINT)
        if known is None:
            study.set_user_attr(_FINGERPRINT, fingerprint)
        elif known != fingerprint:
            raise FraudError(
                f"{path}: its trials are of other rows, another kind or other options; delete it "
                "to start again, or give another --tune-store",
                Code.OUTPUT_OCCUPIED,
            )
        for trial in study.get_trials(deepcopy=False):
            if trial.state == optuna.trial.TrialState.RUNNING:
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        yield study


#: First bytes of Optuna's journal.
_BEGIN = b'{"op_code":'


class _Locked:
    """The lock of Optuna's journal, held for the whole study."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


@contextmanager
def _held(path: str) -> Iterator[None]:
    try:
        held = lock(Path(path))
    except BlockingIOError:
        raise FraudError(
            f"{path}: another process keeps its trials there; wait for it, or give another "
            "--tune-store",
            Code.OUTPUT_IN_USE,
        ) from None
    except OSError as error:
        raise FraudError(
            f"{path}: trials can't be kept there ({error.strerror}); give another --tune-store",
            Code.OUTPUT_UNWRITABLE,
        ) from None
    try:
        yield
    finally:
        held.release()


def _mend(path: str) -> None:
    """Remove an incomplete last line of a killed process.

    Raises:
      FraudError: the file is no journal of Optuna.
    """
    data = Path(path).read_bytes()
    if data and b"\n" not in data and data[: len(_BEGIN)] == _BEGIN[: len(data)]:
        # The first line is incomplete.
        data = b""
        os.truncate(path, 0)
    if data and not _is_journal(data):
        raise FraudError(
            f"{path}: holds no trials; give another --tune-store", Code.OUTPUT_OCCUPIED
        )
    if not data.endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)


def _is_journal(data: bytes) -> bool:
    try:
        first = json.loads(data.split(b"\n", 1)[0])
    except ValueError:
        return False
    return isinstance(first, dict) and "op_code" in first


def fingerprint(recipe: str, rows: FoldRows) -> str:
    """Return a digest of everything that the figures of trials depend on.

    Args:
      recipe: a canonical text of what is tuned and how.
      rows: the folds.

    Returns:
      The SHA-256, in hexadecimal, of recipe, schema and folds, and of features and labels of their
      rows.
    """
    used = np.unique(np.concatenate([at for fold in rows.folds for at in (fold.train, fold.valid)]))
    features, labelled = rows.examples.learn(used)
    digest = hashlib.sha256()
    for text in (recipe, repr(rows.examples.schema), repr(features.categories)):
        digest.update(text.encode() + b"\0")
    for fold in rows.folds:
        for at in (fold.train, fold.valid):
            digest.update(len(at).to_bytes(8, "big"))
            digest.update(np.ascontiguousarray(at).data)
    digest.update(labelled.matrix.data)
    digest.update(labelled.labels.data)
    return digest.hexdigest()


_log = logging.getLogger(__name__)
#: Complete trials before pruning starts.
UNPRUNED_TRIALS = 5
#: Minimum of folds before a trial is pruned: one fold is mostly noise.
UNPRUNED_FOLDS = 2

_STATES: dict[str, Literal["complete", "pruned", "failed"]] = {
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
}
#: Attributes of a trial beside its settings and figure.
_SECONDS, _FOLDS = "seconds", "average_precision_of_folds"


class _PrunedError(Exception):
    """Stop a trial before its other folds."""


@dataclass(frozen=True)
class Search:
    """The search space and the trials so far."""

    #: The `optuna.Study` that stores the trials.
    study: Any
    #: The kind with its own settings.
    kind: ModelKind
    #: The folds.
    rows: FoldRows
    #: Of everything random.
    seed: int
    #: Search space.
    space: Space

    def trials(self) -> tuple[Trial, ...]:
        """The trials so far, without interrupted ones."""
        return tuple(
            Trial(
                number=number,
                settings=self._settings(number, trial.params),
                state=_STATES[trial.state.name],
                average_precision=trial.value if trial.state.name == "COMPLETE" else None,
                seconds=trial.user_attrs[_SECONDS],
            )
            for number, trial in enumerate(self._stored(), 1)
        )

    def next_trial(self) -> None:
        """Run one trial and store it."""
        states = extra_module("optuna", "--tune").trial.TrialState
        number = len(self._stored()) + 1
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
            # Incompatible settings fail their trial, not the whole tuning.
            _log.warning("trial %d failed: %s", number, first_line(error))
            state = states.FAIL
        proposed.set_user_attr(_SECONDS, round(time.monotonic() - start, 3))
        self.study.tell(proposed, figure, state=state)

    def _stored(self) -> list[Any]:
        # An interrupted trial has no duration.
        trials = self.study.get_trials(deepcopy=False)
        return [t for t in trials if _SECONDS in t.user_attrs and t.state.name in _STATES]

    def _propose(self, number: int) -> Any:
        optuna = extra_module("optuna", "--tune")
        # A new seed per trial, so that the place of an interruption does not matter.
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
        """Report to the pruner after each fold the gain over the kind's own settings.

        Folds differ more than settings do, so plain figures would say little.
        """
        figures: list[float] = []
        own = self._stored()[0].user_attrs[_FOLDS] if number > 1 else figures

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


def tune(kind: ModelKind, rows: FoldRows, seed: int, tuning: Tuning, recipe: str = "") -> Tuned:
    """Search settings with a higher mean average precision over the folds.

    The kind's own settings are the first trial, so the best cannot be worse. A proposal depends on
    the seed and the earlier trials alone: a continued call makes the same trials as an
    uninterrupted one.

    Args:
      kind: the kind with its own settings.
      rows: the folds, of both classes each.
      seed: of everything random.
      tuning: options of tuning.
      recipe: a canonical text of everything else that figures depend on.

    Raises:
      UsageError: the kind has no settings to tune.
      FraudError: Optuna is not installed, or `tuning.store` cannot be written.
    """
    space = tuned_settings(kind, tuning.fixed)
    what = fingerprint(f"{kind!r} {space!r} {seed} {recipe}", rows)
    with study_in(tuning.store, what) as study:
        search = Search(study, kind, rows, seed, space)
        try:
            trials = _look(search, tuning)
        except KeyboardInterrupt:
            stored = len(search.trials())
            _log.warning("%d trials are stored in %s: the same call resumes", stored, tuning.store)
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
