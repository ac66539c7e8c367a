"""`beam-fraud train`: fit a model, choose its threshold, write its bundle."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from beam_fraud.cli.commands.figures import render_metrics
from beam_fraud.cli.commands.inputs import input_places
from beam_fraud.cli.commands.times import parse_duration, parse_moment
from beam_fraud.cli.commands.tuning import forget_trials, tuning_of
from beam_fraud.cli.options import TrainOptions
from beam_fraud.cli.terminal.columns import table
from beam_fraud.errors import Code, UsageError
from beam_fraud.features.velocity.reach import look_back, spoken
from beam_fraud.models.bundle import check_place
from beam_fraud.models.calibration import OPTION as CALIBRATE_OPTION
from beam_fraud.models.class_weight import WEIGHT_SETTINGS, with_class_weight
from beam_fraud.models.fitting import Rows, fit_bundle
from beam_fraud.models.folds import summary
from beam_fraud.models.kinds import model_kind
from beam_fraud.models.manifest import model_name
from beam_fraud.models.resampling import candidates, resampled
from beam_fraud.models.threshold import parse_threshold
from beam_fraud.models.training import DECLINE_OPTION, Recipe
from beam_fraud.records.label_file import read_label_file
from beam_fraud.schema.duration import SECOND
from beam_fraud.schema.schema import Schema
from beam_fraud.schema.toml import load_schema
from beam_fraud.storage.lock import sole_writer
from beam_fraud.storage.urls import Place

#: Maximum of folds: each is a training of its own.
_MOST_FOLDS = 100
#: Figures of a fold.
_VALIDATED = ("average_precision", "roc_auc", "card_precision_at_100")


def render_tried(lines: list[dict[str, Any]]) -> list[str]:
    """Return the comparison of resamplers as lines.

    Args:
      lines: fields of `Tried` each; may be empty.
    """
    if not lines:
        return []
    rows = [
        (
            "",
            *("resampling", "rows fitted on", "frauds", "average precision"),
            "gain, 90 %",
            "seconds",
        )
    ]
    return ["", *table([*rows, *map(_tried, lines)], right=range(2, 7))]


def _tried(line: dict[str, Any]) -> tuple[str, ...]:
    start = ("*" if line["chosen"] else "", line["resample"])
    if line["reason"]:
        return (*start, *("",) * 5, line["reason"])
    gain = "-" if line["gain"] is None else "{:+.4f} to {:+.4f}".format(*line["gain"])
    counts = (f"{line['rows']:,}", f"{line['frauds']:,}")
    return (*start, *counts, f"{line['average_precision']:.4f}", gain, f"{line['seconds']:.1f}")


def render_validation(validation: dict[str, Any] | None) -> list[str]:
    """Return lines of the figures of `models.folds.summary`; empty for None."""
    if validation is None:
        return []
    folds = validation["folds"]
    rows: list[tuple[str, ...]] = [
        (
            *("first validation row", "fitted on", "unlabelled", "rows", "known cards", "frauds"),
            *("average precision", "ROC AUC", "card precision@100"),
        )
    ]
    for fold in folds:
        counted = ("train", "unlabelled", "valid", "known_cards")
        rows.append(
            (
                fold["validated_on"][0],
                *(f"{fold[f'rows_{name}']:,}" for name in counted),
                f"{fold['frauds']:,}",
                *(_figure(fold[name]) for name in _VALIDATED),
            )
        )
    for kind, label in (("mean", "mean"), ("spread", "standard deviation")) * (len(folds) > 1):
        values = ((validation.get(name) or {}).get(kind) for name in _VALIDATED)
        rows.append((label, *("",) * 5, *map(_figure, values)))
    head = f"Validated on {len(folds)} fold{'s' * (len(folds) > 1)}"
    return ["", head, "", *table(rows, right=range(1, 9), margin=2)]


def render_tuning(tuning: dict[str, Any] | None) -> list[str]:
    """Return lines of `Tuned.to_dict`; empty for None."""
    if tuning is None:
        return []
    budget = tuning["budget_seconds"]
    lines = [
        "",
        f"Tuned by {tuning['trials']} trials in {tuning['seconds']:.1f} s (seed {tuning['seed']}, "
        f"{tuning['pruned']} pruned, {tuning['failed']} failed"
        + ("" if budget is None else f", budget {budget:g} s")
        + f"): average precision {tuning['best_average_precision']:.4f}, "
        f"{tuning['own_average_precision']:.4f} untuned",
        "",
    ]
    rows = [("trial", "average precision", "settings")]
    for trial in tuning["best_trials"]:
        settings = ", ".join(f"{name}={value}" for name, value in trial["settings"].items())
        rows.append((str(trial["number"]), f"{trial['average_precision']:.4f}", settings))
    return [*lines, *table(rows, right=(0, 1), margin=2)]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


_log = logging.getLogger(__name__)


def run(options: TrainOptions) -> dict[str, object]:
    """Train, and write the bundle.

    Raises:
      FraudError: no model can be fitted with these data and options.
    """
    out = Place.parse(options.out)
    with sole_writer("--out", out):
        return _train(options, out)


def _train(options: TrainOptions, out: Place) -> dict[str, object]:
    schema = load_schema(options.schema)
    _check_division(options, schema)
    if options.calibrate not in (None, "isotonic", "platt"):
        raise UsageError(
            f"{CALIBRATE_OPTION} {options.calibrate}: must be isotonic or platt", Code.OPTION_VALUE
        )
    kind = with_class_weight(model_kind(options.model, options.settings), options.class_weight)
    kind = resampled(kind, options.resample)
    if options.tune is not None and candidates(options.resample):
        raise UsageError(
            "--resample compare: --tune tries one way to resample; name it, or leave out --tune",
            Code.OPTION_CONFLICT,
        )
    kind.check_packages()
    for way in candidates(options.resample):
        way.check_packages()
    fixed = WEIGHT_SETTINGS if options.class_weight is not None else frozenset[str]()
    tuning = tuning_of(options, kind, out, fixed)
    recipe = Recipe(
        kind=kind,
        rule=parse_threshold(options.threshold),
        decline=None
        if options.decline is None
        else parse_threshold(options.decline, DECLINE_OPTION),
        calibrate=options.calibrate,
        split=options.split,
        valid_from=parse_moment("--valid-from", options.valid_from),
        resamplers=candidates(options.resample),
        folds=options.folds,
        label_delay=_label_delay(options),
        drop_known_cards=options.drop_known_cards,
        tuning=tuning,
        seed=options.seed,
    )
    name = model_name(options.name, options.out)
    files, history = input_places(options.files), input_places(options.history)
    check_place(out)
    since, until = parse_moment("--from", options.since), parse_moment("--until", options.until)
    given = None if options.labels is None else read_label_file(Path(options.labels))
    schema = schema if given is None else schema.with_labels()
    fitted = fit_bundle(
        Rows(files, history, since, until, given),
        schema,
        recipe,
        name=name,
        rules=(options.threshold, options.decline),
        data=tuple(Path(file).name for file in options.files),
        warn=lambda warning: _log.warning("%s", warning),
    )
    trained, dataset = fitted.trained, fitted.dataset
    bundle = fitted.bundle.save(out)
    forget_trials(options, tuning)
    back = look_back(schema.velocity)
    return {
        "model_id": bundle.model_id,
        "out": bundle.path,
        "kind": trained.kind.name,
        "settings": trained.settings,
        "resampling": [asdict(line) for line in trained.tried],
        "threshold": trained.threshold,
        "decline": trained.decline,
        "calibration": trained.calibration and trained.calibration.method,
        "reported_on": trained.reported_on,
        "metrics": None if trained.metrics is None else trained.metrics.to_dict(),
        "warnings": list(trained.warnings),
        **dataset.rows_by_outcome,
        **({} if not back else {"look_back_seconds": back // SECOND}),
        "rows_train": trained.sizes["train"],
        "rows_valid": trained.sizes["valid"],
        "rows_held_out": trained.sizes["held_out"],
        "microseconds_per_row": trained.microseconds_per_row,
        "seconds": trained.seconds,
        **({"validation": summary(trained.folds)} if trained.folds else {}),
        **({} if trained.tuned is None else {"tuning": trained.tuned.to_dict()}),
    }


def render(result: dict[str, Any]) -> str:
    """Return the result as text for a terminal."""
    which = "held-out" if result["reported_on"] == "held_out" else "validation"
    return "\n".join(
        [
            f"{result['model_id']} is in {result['out']}",
            "",
            f"Flagged from a score of {result['threshold']:.6g}"
            if result["metrics"] is None
            else render_metrics(result["metrics"], which),
            *(
                []
                if result["decline"] is None
                else ["", f"Declined from a score of {result['decline']:.6g}"]
            ),
            *render_validation(result.get("validation")),
            *render_tuning(result.get("tuning")),
            *render_tried(cast(list[dict[str, Any]], result["resampling"])),
            "",
            f"Trained in {result['seconds']:.1f} s; a prediction takes "
            f"{result['microseconds_per_row']:.2f} µs a row.",
            *_windows(result),
        ]
    )


def _windows(result: dict[str, Any]) -> list[str]:
    if "look_back_seconds" not in result:
        return []
    back = spoken(result["look_back_seconds"] * SECOND)
    return [
        f"Its windows look back {back}: give score, evaluate and stream the transactions before as "
        "--history."
    ]


def _check_division(options: TrainOptions, schema: Schema) -> None:
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
    if options.folds is not None and not 2 <= options.folds <= _MOST_FOLDS:
        raise UsageError(
            f"--folds {options.folds}: must be from 2 to {_MOST_FOLDS}", Code.OPTION_VALUE
        )
    if options.drop_known_cards and schema.role("account_id") is None:
        raise UsageError(
            f"--drop-known-cards: schema {schema.name} gives no column for 'account_id', so cards "
            "can't be told apart",
            Code.ROLE_MISSING,
        )


def _label_delay(options: TrainOptions) -> int:
    """Return the label delay in microseconds.

    Raises:
      UsageError: it is no duration.
    """
    if options.label_delay is None:
        return 0
    return parse_duration("--label-delay", options.label_delay)
