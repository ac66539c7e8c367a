"""`beam-fraud models import`: create a bundle from a foreign model."""

from __future__ import annotations

import logging
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from beam_fraud.cli.commands.inputs import input_places
from beam_fraud.cli.options import ImportModelOptions
from beam_fraud.errors import Code, FraudError, UsageError, need_extras
from beam_fraud.features.dataset import load_dataset
from beam_fraud.features.matrix import feature_matrix
from beam_fraud.models.bundle import MODEL_FILE, check_place, write_bundle
from beam_fraud.models.card import imported_card
from beam_fraud.models.foreign import in_words
from beam_fraud.models.importing import Confirmed, ImportedModel, open_saved
from beam_fraud.models.manifest import Manifest, Thresholds, model_name, schema_fields
from beam_fraud.models.metrics import measure, one_class_warning
from beam_fraud.models.mlflow.directory import MlflowModel
from beam_fraud.models.mlflow.library import is_model_uri, mlflow_model
from beam_fraud.models.model_files.saved import MODULES, SavedModel, read_model_file
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.reference import Reference
from beam_fraud.monitoring.activity import doing
from beam_fraud.schema.toml import load_schema
from beam_fraud.storage.lock import sole_writer
from beam_fraud.storage.urls import Place

_log = logging.getLogger(__name__)


def run(options: ImportModelOptions) -> dict[str, object]:
    """Open the model if it is trusted, check it against the schema and write the bundle.

    Raises:
      UsageError: the order of its features or its class of fraud must be confirmed.
      FraudError: it is not trusted, cannot be opened or does not fit the schema.
    """
    out = Place.parse(options.out)
    with sole_writer("--out", out):
        return _import(options, out)


def _import(options: ImportModelOptions, out: Place) -> dict[str, object]:
    check_place(out)
    with mlflow_model(options.file) as found:
        if found is not None and found.holds_bundle:
            return _import_bundle(options, found, out)
        saved = read_model_file(options.file) if found is None else found.saved()
    return _import_foreign(options, saved, out)


#: Options that say what an exported bundle says itself.
_OF_FOREIGN = ("schema", "name", "features", "positive", "check", "threshold", "decline")


def _import_bundle(
    options: ImportModelOptions, found: MlflowModel, out: Place
) -> dict[str, object]:
    """Copy an exported bundle, which stays the same in every bit.

    Raises:
      UsageError: an option contradicts the bundle.
      FraudError: it is damaged, or not trusted.
    """
    defaults = {field.name: field.default for field in fields(options)}
    for name in _OF_FOREIGN:
        if getattr(options, name) != defaults[name]:
            raise UsageError(
                f"--{name}: {options.file} is an exported bundle, which has its own and stays the "
                "same; leave it out",
                Code.OPTION_CONFLICT,
            )
    bundle = found.bundle()
    digest = bundle.manifest.files[MODEL_FILE]
    if not options.trust:
        raise FraudError(
            f"{options.file}: holds {bundle.model_id}, whose {MODEL_FILE} has the sha256 {digest}; "
            "scoring by it runs its code, so compare the digest with the author's, then repeat "
            "with --trust",
            Code.CONSENT_MISSING,
        )
    saved = bundle.save(out)
    return {
        "model_id": saved.model_id,
        "out": saved.path,
        "sha256": digest,
        "kind": saved.manifest.kind,
        "features": list(saved.manifest.features),
        "threshold": saved.thresholds.review,
        "decline": saved.thresholds.decline,
        "microseconds_per_row": saved.manifest.microseconds_per_row,
    }


def _import_foreign(
    options: ImportModelOptions, saved: SavedModel, out: Place
) -> dict[str, object]:
    if options.schema is None:
        raise UsageError(
            "--schema S is missing: a preset or a TOML file with the model's columns",
            Code.OPTION_MISSING,
        )
    if not 0 <= options.threshold <= 1:
        raise UsageError(
            f"--threshold {options.threshold:g}: must be from 0 to 1", Code.OPTION_VALUE
        )
    if options.decline is not None and not options.threshold <= options.decline <= 1:
        raise UsageError(
            f"--decline {options.decline:g}: must be from {options.threshold:g}, which --threshold "
            "is, to 1",
            Code.OPTION_VALUE,
        )
    thresholds = Thresholds(options.threshold, options.decline)
    name = model_name(options.name, options.out)
    schema = load_schema(options.schema)
    if saved.format in MODULES:
        need_extras([MODULES[saved.format]], options.file)
    confirmed = Confirmed(_listed(options.features), options.positive, options.trust)
    if saved.runs_code and not options.trust:
        open_saved(saved, schema, confirmed)  # refused before any rows are read
    rows = None
    if options.check:
        dataset = load_dataset(input_places(options.check), schema, absent="refuse")
        rows = dataset.transactions
    with doing(f"opening {options.file}"):
        imported = open_saved(saved, schema, confirmed, rows)
    check = None if rows is None else _check(imported, rows, options)
    manifest = Manifest(
        name=name,
        kind="imported",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        features=imported.features.names,
        **schema_fields(schema),
        categories=imported.features.categories,
        thresholds=thresholds,
        microseconds_per_row=imported.microseconds_per_row,
    )
    source = options.file if is_model_uri(options.file) else Path(options.file).name
    card = imported_card(name, imported, source, saved.sha256, thresholds)
    by = imported.saved_by
    bundle = write_bundle(out, imported.model, manifest, Reference(), card)
    return {
        "model_id": bundle.model_id,
        "out": bundle.path,
        "sha256": saved.sha256,
        "library": None if by is None else by.library,
        "saved_by": None if by is None else by.version,
        "features": list(imported.features.names),
        "names": list(imported.names),
        "positive": imported.scoring.positive,
        "classes": list(imported.scoring.classes),
        "score": imported.scoring.score,
        "check": check,
        "threshold": options.threshold,
        "decline": options.decline,
        "microseconds_per_row": imported.microseconds_per_row,
    }


def _listed(names: str | None) -> tuple[str, ...]:
    if names is None:
        return ()
    listed = tuple(name.strip() for name in names.split(","))
    if not all(listed):
        raise UsageError(f"--features {names!r}: a name is empty", Code.OPTION_VALUE)
    return listed


def _check(
    imported: ImportedModel, rows: pa.Table, options: ImportModelOptions
) -> dict[str, object]:
    """Return the figures of the scores of labelled rows, and warn if they are worse than chance."""
    labels = np.asarray(rows.column("label").to_numpy(), dtype=np.int8)
    with in_words(options.file, lambda reason: f"can't score the rows of --check ({reason})"):
        scores = predict_scores(imported.model, feature_matrix(rows, imported.features))
    figures = measure(labels, scores, options.threshold)
    if warning := one_class_warning(figures.rows, figures.frauds):
        _log.warning("--check: %s", warning)
    elif figures.roc_auc is not None and figures.roc_auc < 0.5:
        others = [name for name in imported.scoring.classes if name != imported.scoring.positive]
        _log.warning(
            "%s: ranks the rows of --check worse than chance (ROC AUC %.3f, %s frauds among %s "
            "rows): fraud may be another class (--positive %s instead of %s), or the order of the "
            "features another (--features)",
            *(options.file, figures.roc_auc, f"{figures.frauds:,}", f"{figures.rows:,}"),
            *(" or ".join(others) or "1", imported.scoring.positive),
        )
    names = ("rows", "frauds", "roc_auc", "average_precision", "precision", "recall")
    return {name: getattr(figures, name) for name in names}


def render(result: dict[str, Any]) -> str:
    """Return the result as text for a terminal."""
    if "kind" in result:
        return (
            f"{result['model_id']} is in {result['out']}, the bundle that was exported; its model "
            f"has the sha256 {result['sha256']}"
        )
    declines = "" if result["decline"] is None else f", declines from {result['decline']:g}"
    features, names = result["features"], result["names"]
    pairs = [n if n == own else f"{n} ({own})" for n, own in zip(features, names, strict=False)]
    lines = [
        f"{result['model_id']} is in {result['out']}",
        f"imported from a file with sha256 {result['sha256']}; flags from a score of "
        f"{result['threshold']:g}{declines}, a prediction takes "
        f"{result['microseconds_per_row']:.2f} µs a row",
        f"features in {'the order of the model' if names else 'this order, as confirmed'}: "
        f"{', '.join(pairs or features)}",
        f"fraud is {result['positive']} of the classes {', '.join(result['classes'])}; the score "
        f"is {result['score']}",
    ]
    if (check := result["check"]) is not None:
        area = check["roc_auc"]
        lines.append(
            f"--check: {check['frauds']:,} frauds among {check['rows']:,} rows"
            + ("" if area is None else f", ROC AUC {area:.4f}")
        )
    return "\n".join(lines)
