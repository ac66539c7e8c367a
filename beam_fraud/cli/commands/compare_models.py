"""`beam-fraud models compare`: compare bundles."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, cast

import numpy as np

from beam_fraud.cli.commands.inputs import input_places
from beam_fraud.cli.commands.models import FIGURES
from beam_fraud.cli.commands.times import parse_moment
from beam_fraud.cli.options import CompareModelsOptions
from beam_fraud.cli.terminal.columns import table
from beam_fraud.errors import Code, UsageError
from beam_fraud.evaluation.candidate import agreement, overlap_warning
from beam_fraud.evaluation.holdout import Evaluated, evaluated_rows
from beam_fraud.features.matrix import feature_matrix
from beam_fraud.models.bundle import Bundle, check_packages, load_model, open_bundle
from beam_fraud.models.fitting import Rows
from beam_fraud.models.manifest import Manifest
from beam_fraud.models.metrics import measure, one_class_warning
from beam_fraud.models.predict import predict_scores
from beam_fraud.schema.event_time import event_micros
from beam_fraud.storage.urls import Place
from beam_fraud.wording import printable


@dataclass(frozen=True)
class Differences:
    """Differences of several models."""

    #: Common features.
    shared_features: tuple[str, ...]
    #: Other features, with whether each model has them.
    other_features: dict[str, tuple[bool, ...]]
    #: Differing settings with each model's value; None if its kind lacks the setting.
    settings: dict[str, tuple[Any, ...]]


def differences(manifests: Sequence[Manifest]) -> Differences:
    """Compare the manifests of two models or more."""
    feature_sets = [set(manifest.features) for manifest in manifests]
    features = _in_order(name for manifest in manifests for name in manifest.features)
    names = _in_order(name for manifest in manifests for name in manifest.settings)
    settings = {
        name: tuple(manifest.settings.get(name) for manifest in manifests) for name in names
    }
    return Differences(
        shared_features=tuple(name for name in features if all(name in t for t in feature_sets)),
        other_features={
            name: tuple(name in t for t in feature_sets)
            for name in features
            if not all(name in t for t in feature_sets)
        },
        settings={
            name: values
            for name, values in settings.items()
            if any(value != values[0] for value in values)
        },
    )


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


_log = logging.getLogger(__name__)


def run(options: CompareModelsOptions) -> dict[str, object]:
    """Compare manifests and, with labelled rows, figures.

    Returns:
      `models` in order, their `differences`, and `measured`: None, or figures of each model and the
      agreement of each pair on the same rows.

    Raises:
      FraudError: a bundle cannot be used, or there are no rows or labels.
    """
    if len(options.bundles) < 2:
        raise UsageError("models compare: give two bundles or more", Code.OPTION_MISSING)
    if not options.on:
        for option in ("schema", "since", "until", "history"):
            if getattr(options, option):
                name = "from" if option == "since" else option
                raise UsageError(
                    f"--{name}: needs --on FILE, the rows to measure on", Code.OPTION_CONFLICT
                )
    bundles = [open_bundle(place) for place in Place.parse_all(options.bundles)]
    return {
        "models": [_described(bundle) for bundle in bundles],
        "differences": asdict(differences([bundle.manifest for bundle in bundles])),
        "measured": _measured(bundles, options) if options.on else None,
    }


def render(result: dict[str, object]) -> str:
    """Return tables with a column per model."""
    models = cast(list[dict[str, Any]], result["models"])
    ids = [printable(model["model_id"]) for model in models]
    rows = [["", *ids]]
    for name in ("kind", "created", "trained_on", "threshold", "decline", "microseconds_per_row"):
        rows.append([name.replace("_", " "), *(_text(model[name]) for model in models)])
    own = [["own figures", *(str(m["metrics"].get("rows_of", "-")) for m in models)]]
    for name, text in FIGURES.items():
        own.append([text, *(_text(model["metrics"].get(name)) for model in models)])
    return "\n".join(
        [
            *table(rows),
            "",
            *table(own),
            "",
            *_render_differences(cast(dict[str, Any], result["differences"])),
            *_render_measured(cast(dict[str, Any] | None, result["measured"]), ids),
        ]
    )


def _described(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "model_id": bundle.model_id,
        "path": bundle.path,
        "kind": manifest.kind,
        "created": manifest.created,
        "trained_on": None if manifest.trained_on is None else list(manifest.trained_on),
        "threshold": manifest.thresholds.review,
        "decline": manifest.thresholds.decline,
        "microseconds_per_row": manifest.microseconds_per_row,
        "metrics": manifest.metrics,
    }


def _measured(bundles: list[Bundle], options: CompareModelsOptions) -> dict[str, Any]:
    on, history = input_places(options.on), input_places(options.history)
    for bundle in bundles:
        check_packages(bundle)
    evaluated = evaluated_rows(
        bundles,
        Rows(
            on,
            history,
            parse_moment("--from", options.since),
            parse_moment("--until", options.until),
        ),
        schema=options.schema,
        protocol=None,
        segments=(),
    )
    times = event_micros(evaluated.transactions[0])
    first, last = int(times.min()), int(times.max())
    labels = evaluated.rows.labels
    alone = one_class_warning(len(labels), int(labels.sum()))
    warnings = [w for bundle in bundles if (w := overlap_warning(bundle, first, last))]
    warnings += [] if alone is None else [alone]
    reach = evaluated.reach
    warnings += [] if reach is None or (short := reach.warning()) is None else [short]
    for warning in warnings:
        _log.warning("%s", warning)
    scores = [_scores(bundle, evaluated, place) for place, bundle in enumerate(bundles)]
    thresholds = [bundle.thresholds.review for bundle in bundles]
    return {
        "rows": len(labels),
        "frauds": int(labels.sum()),
        "models": [
            {"model_id": bundle.model_id, **measure(labels, s, threshold).to_dict()}
            for bundle, s, threshold in zip(bundles, scores, thresholds, strict=True)
        ],
        "pairs": [
            {
                "first": bundles[a].model_id,
                "second": bundles[b].model_id,
                **asdict(agreement(labels, scores[a], scores[b], (thresholds[a], thresholds[b]))),
            }
            for a, b in combinations(range(len(bundles)), 2)
        ],
        "warnings": warnings,
    }


def _scores(bundle: Bundle, evaluated: Evaluated, place: int) -> np.ndarray[Any, Any]:
    matrix = feature_matrix(evaluated.transactions[place], evaluated.features[place])
    return predict_scores(load_model(bundle), matrix)


def _render_differences(result: dict[str, Any]) -> list[str]:
    lines = [f"{len(result['shared_features'])} features in common"]
    rows = [
        [f"  {printable(name)}", *("yes" if present else "no" for present in flags)]
        for name, flags in result["other_features"].items()
    ]
    lines += ["features of some:", *table(rows)] if rows else []
    rows = [
        [f"  {printable(name)}", *map(_text, values)] for name, values in result["settings"].items()
    ]
    return lines + (["settings that differ:", *table(rows)] if rows else [])


def _render_measured(figures: dict[str, Any] | None, ids: list[str]) -> list[str]:
    if figures is None:
        return []
    head = (
        f"On the same {figures['rows']:,} rows with {figures['frauds']:,} frauds, each from its own"
    )
    rows = [["", *ids]]
    for name in ("average_precision", "roc_auc", "threshold", "precision", "recall", "f1"):
        text = FIGURES.get(name, name)
        rows.append([text, *(_text(model[name]) for model in figures["models"])])
    for name, text in (("tp", "frauds flagged"), ("fp", "genuine flagged")):
        rows.append([text, *(_text(model["confusion"][name]) for model in figures["models"])])
    lines = ["", f"{head} threshold:", *table(rows), ""]
    for pair in figures["pairs"]:
        overlap, rank = _text(pair["overlap"]), _text(pair["rank_correlation"])
        lines.append(
            f"{printable(pair['first'])} and {printable(pair['second'])}: "
            f"both flag {pair['both']:,} "
            f"rows ({pair['frauds_both']:,} frauds), the first alone {pair['only_first']:,} "
            f"({pair['frauds_only_first']:,}), the second alone {pair['only_second']:,} "
            f"({pair['frauds_only_second']:,}); overlap {overlap}, rank correlation {rank}"
        )
    return lines


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple) and len(value) == 2:
        return " to ".join(printable(str(part)[:10]) for part in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else printable(str(value))
