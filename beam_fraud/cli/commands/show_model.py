"""`beam-fraud models show`: show a bundle's manifest and card."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from beam_fraud.cli.options import ShowModelOptions
from beam_fraud.cli.terminal.columns import size_text, table
from beam_fraud.cli.terminal.command import Outcome
from beam_fraud.models.bundle import open_bundle, read_card
from beam_fraud.models.listing import bundle_bytes
from beam_fraud.platform.wording import printable
from beam_fraud.storage.urls import Place

#: Figures of a manifest and their names.
FIGURES = {
    "rows": "rows",
    "frauds": "frauds",
    "average_precision": "average precision",
    "roc_auc": "ROC AUC",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
}


def run(options: ShowModelOptions) -> dict[str, object]:
    """Read a bundle without opening its model.

    Raises:
      FraudError: it is no bundle, or damaged.
    """
    place = Place.parse(options.bundle)
    bundle = open_bundle(place)
    return {
        "model_id": bundle.model_id,
        "path": bundle.path,
        "bytes": bundle_bytes(place),
        "manifest": msgspec.to_builtins(bundle.manifest),
        "card": read_card(bundle),
    }


def call(options: ShowModelOptions, *, as_json: bool) -> Outcome:
    """Show the bundle, or its card alone."""
    return Outcome(run(options), render_card if options.card else render)


def render(result: dict[str, object]) -> str:
    """Return the manifest as a list, then the card."""
    manifest = cast(dict[str, Any], result["manifest"])
    thresholds, span = manifest["thresholds"], manifest["trained_on"]
    cost = manifest["microseconds_per_row"]
    lines = {
        "model": result["model_id"],
        "path": result["path"],
        "kind": manifest["kind"],
        "made": manifest["created"],
        "trained on": "unknown" if span is None else f"{span[0]} to {span[1]}",
        "size": size_text(cast(int | None, result["bytes"])),
        "schema": manifest["schema"].get("name", "-"),
        "flags from": f"{thresholds['review']:.6g}",
        "declines from": _or_dash(thresholds["decline"]),
        "µs a row": _or_dash(cost),
        "figures of": manifest["metrics"].get("rows_of", "-").replace("_", " ") + " rows",
        **{text: _or_dash(manifest["metrics"].get(name)) for name, text in FIGURES.items()},
        "features": f"{len(manifest['features'])}: {', '.join(manifest['features'])}",
        "settings": ", ".join(f"{k}={v}" for k, v in manifest["settings"].items()) or "-",
        "versions": ", ".join(f"{k} {v}" for k, v in manifest["versions"].items()) or "-",
    }
    rows = table([(name, printable(str(value))) for name, value in lines.items()])
    return "\n".join([*rows, "", render_card(result)])


def render_card(result: dict[str, object]) -> str:
    """Return the card alone, with control characters escaped."""
    return "\n".join(_shown(line) for line in str(result["card"]).rstrip().split("\n"))


def _shown(line: str) -> str:
    # A card's backslashes are Markdown's, and belong there.
    return "\\".join(printable(part) for part in line.split("\\"))


def _or_dash(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
