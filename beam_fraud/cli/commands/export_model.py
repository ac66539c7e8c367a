"""`beam-fraud models export`: export a bundle's model for other runtimes."""

from __future__ import annotations

from beam_fraud.cli.options import ExportModelOptions
from beam_fraud.models.bundle import open_bundle
from beam_fraud.models.onnx.export import export_onnx
from beam_fraud.monitoring.activity import doing
from beam_fraud.storage.lock import sole_writer
from beam_fraud.storage.urls import Place


def run(options: ExportModelOptions) -> dict[str, object]:
    """Convert the model, compare the scores and write the file.

    Raises:
      FraudError: the model has no converter, or the scores differ.
    """
    with sole_writer("--onnx", Place.parse(options.onnx)):
        bundle = open_bundle(Place.parse(options.model))
        with doing(f"converting {bundle.model_id} and comparing its scores"):
            exported = export_onnx(bundle, options.onnx)
    return {
        "model_id": bundle.model_id,
        "out": exported.path,
        "kind": bundle.manifest.kind,
        "bytes": exported.size,
        "rows_compared": exported.rows_compared,
        "largest_difference": exported.largest_difference,
    }


def render(result: dict[str, object]) -> str:
    """Return the result as text for a terminal."""
    return (
        f"{result['model_id']} is in {result['out']} ({result['bytes']:,} bytes)\n"
        f"its scores differ by {result['largest_difference']:.2g} at most on "
        f"{result['rows_compared']:,} sample rows"
    )
