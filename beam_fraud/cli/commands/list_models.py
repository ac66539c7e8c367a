"""`beam-fraud models list`: list bundles."""

from __future__ import annotations

from typing import Any, cast

from beam_fraud.cli.options import ListModelsOptions
from beam_fraud.cli.terminal.columns import size_text, table
from beam_fraud.errors import Code, FraudError
from beam_fraud.models.bundle import open_bundle
from beam_fraud.models.listing import bundle_bytes, find_bundles
from beam_fraud.platform.wording import printable
from beam_fraud.storage.urls import Place


def run(options: ListModelsOptions) -> dict[str, object]:
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


def render(result: dict[str, object]) -> str:
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
