"""`beam-fraud models import`: create a bundle from a foreign model."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from beam_fraud.cli.options import ImportModelOptions
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.models.bundle import MANIFEST_FILE, write_bundle
from beam_fraud.models.card import imported_card
from beam_fraud.models.importing import open_trusted, read_model_file
from beam_fraud.models.manifest import Manifest, Thresholds, model_name, schema_fields
from beam_fraud.models.reference import Reference
from beam_fraud.models.storage import check_directory
from beam_fraud.monitoring.activity import doing
from beam_fraud.schema.toml import load_schema
from beam_fraud.storage.lock import sole_writer
from beam_fraud.storage.urls import Place


def run(options: ImportModelOptions) -> dict[str, object]:
    """Open the model if it is trusted, check it against the schema and write the bundle.

    Raises:
      FraudError: it is not trusted, cannot be opened or does not fit the schema.
    """
    out = Place.parse(options.out)
    with sole_writer("--out", out):
        return _import(options, out)


def _import(options: ImportModelOptions, out: Place) -> dict[str, object]:
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
    check_directory(out, MANIFEST_FILE)
    saved = read_model_file(options.file)
    if not options.trust:
        raise FraudError(
            f"{options.file}: sha256 {saved.sha256}; opening it runs its code, so compare the "
            "digest with the author's, then repeat with --trust",
            Code.CONSENT_MISSING,
        )
    with doing(f"opening {options.file}"):
        imported = open_trusted(saved, schema)
    manifest = Manifest(
        name=name,
        kind="imported",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        features=imported.features.names,
        **schema_fields(schema),
        thresholds=thresholds,
        microseconds_per_row=imported.microseconds_per_row,
    )
    source = Path(options.file).name
    card = imported_card(name, imported, source, saved.sha256, thresholds)
    bundle = write_bundle(out, imported.model, manifest, Reference(), card)
    return {
        "model_id": bundle.model_id,
        "out": bundle.path,
        "sha256": saved.sha256,
        "saved_by": imported.saved_by,
        "features": list(imported.features.names),
        "threshold": options.threshold,
        "decline": options.decline,
        "microseconds_per_row": imported.microseconds_per_row,
    }


def render(result: dict[str, object]) -> str:
    """Return the result as text for a terminal."""
    declines = "" if result["decline"] is None else f", declines from {result['decline']:g}"
    return (
        f"{result['model_id']} is in {result['out']}\n"
        f"imported from a file with sha256 {result['sha256']}; flags from a score of "
        f"{result['threshold']:g}{declines}, a prediction takes "
        f"{result['microseconds_per_row']:.2f} µs a row"
    )
