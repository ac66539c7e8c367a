"""`beam-fraud models list` and `show`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec

from beam_fraud.cli.options import ListModelsOptions, ShowModelOptions
from beam_fraud.cli.terminal.columns import size_text, table
from beam_fraud.cli.terminal.command import Outcome
from beam_fraud.errors import Code, FraudError
from beam_fraud.models.bundle import (
    DIGESTED_FILES,
    MANIFEST_FILE,
    OPTIONAL_FILES,
    open_bundle,
    read_card,
)
from beam_fraud.storage.urls import Place
from beam_fraud.wording import printable

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
#: Maximum depth of the search: enough for a folder of experiments.
DEEPEST = 4


def run_list(options: ListModelsOptions) -> dict[str, object]:
    """Check every bundle; a damaged one is listed, too.

    Returns:
      `models`, newest first, then unusable ones with their `error`.

    Raises:
      FraudError: the directory does not exist.
    """
    directories = Place.parse_all(options.directories)
    places = dict.fromkeys(place for one in directories for place in find_bundles(one))
    lines = [_line(place) for place in places]
    good = [line for line in lines if "error" not in line]
    good.sort(key=lambda line: str(line["created"]), reverse=True)
    return {"models": [*good, *(line for line in lines if "error" in line)]}


def render_list(result: dict[str, object]) -> str:
    """Return a line per bundle."""
    models = cast(list[dict[str, Any]], result["models"])
    if not models:
        return "There are no model bundles."
    head = ("model", "kind", "made", "trained on", "avg. precision", "flags from", "size", "path")
    return "\n".join(
        [
            *table([head, *(_cells(one) for one in models if "error" not in one)]),
            *(
                f"damaged: {printable(one['error'])} [{one['code']}]"
                for one in models
                if "error" in one
            ),
        ]
    )


def _line(place: Place) -> dict[str, object]:
    path = place.shown
    try:
        bundle = open_bundle(place)
        size = bundle_bytes(place)
    except FraudError as error:
        return {"path": path, "error": str(error), "code": error.code}
    except OSError as error:
        line = f"{path}: can't be read ({error.strerror})"
        return {"path": path, "error": line, "code": Code.BUNDLE_DAMAGED}
    manifest = bundle.manifest
    return {
        "path": path,
        "model_id": bundle.model_id,
        "name": manifest.name,
        "kind": manifest.kind,
        "created": manifest.created,
        "trained_on": None if manifest.trained_on is None else list(manifest.trained_on),
        "average_precision": manifest.metrics.get("average_precision"),
        "rows_of": manifest.metrics.get("rows_of"),
        "threshold": manifest.thresholds.review,
        "decline": manifest.thresholds.decline,
        "bytes": size,
    }


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    precision, span = one["average_precision"], one["trained_on"]
    return (
        printable(one["model_id"]),
        printable(one["kind"]),
        printable(one["created"][:16]),
        "-" if span is None else printable(f"{span[0][:10]} to {span[1][:10]}"),
        f"{precision:.4f}" if isinstance(precision, int | float) else "-",
        f"{one['threshold']:.6g}",
        size_text(one["bytes"]),
        printable(one["path"]),
    )


def run_show(options: ShowModelOptions) -> dict[str, object]:
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


def call_show(options: ShowModelOptions, *, as_json: bool) -> Outcome:
    """Show the bundle, or its card alone."""
    return Outcome(run_show(options), render_card if options.card else render_show)


def render_show(result: dict[str, object]) -> str:
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


def find_bundles(directory: Place) -> list[Place]:
    """Return the sorted places of bundles, valid or not, in a directory.

    A bundle has a manifest and at least one other of its files, because many other things have a
    `manifest.json`. The search skips the inside of bundles, hidden directories and links.

    Args:
      directory: a bundle, or a local directory with bundles up to `DEEPEST` levels down. A URL must
        be a bundle's: remote file systems are not searched.

    Raises:
      FraudError: the directory does not exist.
    """
    if directory.local is None:
        return [directory]
    if not directory.local.is_dir():
        raise FraudError(f"{directory.shown}: is no directory", Code.BUNDLE_MISSING)
    shown = Path(directory.shown)
    return [
        Place(str(path), path, str(shown / path.relative_to(directory.local)))
        for path in sorted(_below(directory.local), key=str)
    ]


def _below(directory: Path) -> Iterator[Path]:
    depth = len(directory.parts)
    for place, inner, files in os.walk(directory):
        if MANIFEST_FILE in files and not set(files).isdisjoint(DIGESTED_FILES):
            inner.clear()
            yield Path(place)
        elif len(Path(place).parts) - depth >= DEEPEST:
            inner.clear()
        inner[:] = [name for name in inner if not name.startswith(".")]


def bundle_bytes(place: Place) -> int | None:
    """Return the size of a bundle's files in bytes; None at a URL."""
    local = place.local
    if local is None:
        return None
    return sum(
        file.stat().st_size
        for name in (MANIFEST_FILE, *DIGESTED_FILES, *OPTIONAL_FILES)
        if (file := local / name).is_file()
    )
