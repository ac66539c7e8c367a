"""Check the options of validation and tuning of `train`."""

from __future__ import annotations

from pathlib import Path

from beam_fraud.cli.commands.times import parse_duration, parse_seconds
from beam_fraud.cli.options import TrainOptions
from beam_fraud.errors import Code, UsageError
from beam_fraud.models.class_weight import WEIGHT_SETTINGS
from beam_fraud.models.kinds import ModelKind
from beam_fraud.models.tuning.trial import Tuning, tuned_settings
from beam_fraud.schema.schema import Schema
from beam_fraud.storage.atomic import check_writable
from beam_fraud.storage.urls import Place

#: Maximum of folds: each is a training of its own.
MOST_FOLDS = 100


def check_division(options: TrainOptions, schema: Schema) -> None:
    """Check that the options of the division are consistent.

    Raises:
      UsageError: they are not.
    """
    if options.split not in ("time", "stratified"):
        raise UsageError(f"--split {options.split}: must be time or stratified", Code.OPTION_VALUE)
    if options.split == "stratified":
        in_time = {
            "--valid-from": options.valid_from is not None,
            "--label-delay": options.label_delay is not None,
            "--drop-known-cards": options.drop_known_cards,
        }
        for option, value in in_time.items():
            if value:
                raise UsageError(
                    f"{option}: random rows (--split stratified) have no first time, so nothing "
                    "comes before or after them",
                    Code.OPTION_CONFLICT,
                )
    if options.folds is not None and not 2 <= options.folds <= MOST_FOLDS:
        raise UsageError(
            f"--folds {options.folds}: must be from 2 to {MOST_FOLDS}", Code.OPTION_VALUE
        )
    if options.drop_known_cards and schema.role("account_id") is None:
        raise UsageError(
            f"--drop-known-cards: schema {schema.name} gives no column for 'account_id', so cards "
            "can't be told apart",
            Code.ROLE_MISSING,
        )


def delay_of(options: TrainOptions) -> int:
    """Return the label delay in microseconds.

    Raises:
      UsageError: it is no duration.
    """
    if options.label_delay is None:
        return 0
    return parse_duration("--label-delay", options.label_delay)


def tuning_of(options: TrainOptions, kind: ModelKind) -> Tuning | None:
    """Return the options of tuning, or None.

    Args:
      options: of the command.
      kind: the kind to train.

    Raises:
      UsageError: an option has no effect here or an invalid value, or the kind has no settings to
        tune.
      FraudError: the journal of trials cannot be written.
    """
    if options.tune is None:
        for option, value in (
            ("--tune-budget", options.tune_budget),
            ("--tune-store", options.tune_store),
        ):
            if value is not None:
                raise UsageError(f"{option} {value}: only with --tune", Code.OPTION_CONFLICT)
        return None
    if options.tune < 1:
        raise UsageError(f"--tune {options.tune}: must be 1 or more", Code.OPTION_VALUE)
    budget = None
    if options.tune_budget is not None:
        budget = parse_seconds("--tune-budget", options.tune_budget)
    store = _store(options)
    check_writable(store.parent)
    fixed = frozenset(setting.partition("=")[0] for setting in options.settings)
    if options.class_weight is not None:
        fixed |= WEIGHT_SETTINGS
    tuned_settings(kind, fixed)
    return Tuning(options.tune, str(store), budget, fixed)


def remove_own_store(options: TrainOptions) -> None:
    """Remove the journal of trials beside the bundle, which is now complete."""
    if options.tune is not None and options.tune_store is None:
        _store(options).unlink(missing_ok=True)


def _store(options: TrainOptions) -> Path:
    if options.tune_store is not None:
        store = Place.parse(options.tune_store).local
        if store is None:
            raise UsageError(
                f"--tune-store {options.tune_store}: must be a local file", Code.OUTPUT_NAME
            )
        return store
    out = Place.parse(options.out).local
    if out is None:
        raise UsageError(
            f"--tune: trials can't be kept beside {options.out}; give a local --tune-store",
            Code.OUTPUT_NAME,
        )
    return out.with_name(f"{out.name}.trials")
