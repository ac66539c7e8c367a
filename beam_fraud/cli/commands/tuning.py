"""Tuning by the options of a command, and the journal of its trials."""

from __future__ import annotations

from pathlib import Path

from beam_fraud.cli.commands.times import parse_seconds
from beam_fraud.cli.options.modelling import TuningOptions
from beam_fraud.errors import Code, UsageError, need_extras
from beam_fraud.models.kinds import ModelKind
from beam_fraud.models.tuning.trial import Tuning, tuned_settings
from beam_fraud.storage.atomic import check_writable
from beam_fraud.storage.urls import Place


def tuning_of(
    options: TuningOptions, kind: ModelKind, out: Place, fixed: frozenset[str]
) -> Tuning | None:
    """Return what the options ask for, or None.

    Args:
      options: of the command.
      kind: the kind to train.
      out: the new bundle, beside which trials are kept without `--tune-store`.
      fixed: settings that may not be tuned, beside those of `--set`.

    Raises:
      UsageError: an option has no effect here or an invalid value, or the kind has no settings to
        tune.
      FraudError: a package is missing, or the journal of trials cannot be written.
    """
    if options.tune is None:
        for option, value in (
            ("--tune-budget", options.tune_budget),
            ("--tune-store", options.tune_store),
        ):
            if value is not None:
                raise UsageError(f"{option} {value}: only with --tune", Code.OPTION_CONFLICT)
        return None
    need_extras(["optuna"], "--tune")
    trials = _trials_of(options, out)
    if options.tune < 1:
        raise UsageError(f"--tune {options.tune}: must be 1 or more", Code.OPTION_VALUE)
    budget = None
    if options.tune_budget is not None:
        budget = parse_seconds("--tune-budget", options.tune_budget)
    check_writable(trials.parent)
    fixed |= frozenset(setting.partition("=")[0] for setting in options.settings)
    tuned_settings(kind, fixed)
    return Tuning(options.tune, str(trials), budget, fixed)


def forget_trials(options: TuningOptions, tuning: Tuning | None) -> None:
    """Remove the journal of trials beside a bundle that is complete."""
    if tuning is not None and options.tune_store is None:
        Path(tuning.store).unlink(missing_ok=True)


def _trials_of(options: TuningOptions, out: Place) -> Path:
    """Return the journal of trials: `--tune-store`, or a file beside the bundle."""
    if options.tune_store is not None:
        store = Place.parse(options.tune_store).local
        if store is None:
            raise UsageError(
                f"--tune-store {options.tune_store}: must be a local file", Code.OUTPUT_NAME
            )
        return store
    if out.local is None:
        raise UsageError(
            f"--tune: trials can't be kept beside {out.shown}; give a local --tune-store",
            Code.OUTPUT_NAME,
        )
    return out.local.with_name(f"{out.local.name}.trials")
