"""Write an ONNX file, once it is known to give the scores of the model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import FraudError
from beam_fraud.extras import extra_module
from beam_fraud.models.bundle import Bundle, load_model, read_reference
from beam_fraud.models.onnx.converted import INPUT
from beam_fraud.models.onnx.graph import OUTPUT, onnx_graph
from beam_fraud.models.onnx.probes import probe_rows
from beam_fraud.models.onnx.unsupported import UnsupportedError
from beam_fraud.models.predict import predict_scores

Floats = npt.NDArray[np.float64]
#: How far a score of the file may be from the model's.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Exported:
    """An ONNX file that was compared with its model."""

    #: The file.
    path: str
    #: Its size in bytes.
    size: int
    #: Rows on which both were compared.
    rows_compared: int
    #: By how much a score differed at most.
    largest_difference: float


def export_onnx(bundle: Bundle, path: str) -> Exported:
    """Convert a bundle's model and write it, whole or not at all.

    Args:
      bundle: whose model it is.
      path: a local file; an earlier one is replaced.

    Raises:
      FraudError: the extra `onnx` is not installed, there is no converter for the model, its
        converted scores differ, or the file can't be written.
    """
    extra_module("onnxruntime", "--onnx")
    model, features = load_model(bundle), len(bundle.manifest.features)
    try:
        graph = onnx_graph(model, features)
    except UnsupportedError as error:
        raise FraudError(f"{bundle.path}: no ONNX file can be made of {error}") from None
    rows = probe_rows(read_reference(bundle), features, graph)
    onnx = extra_module("onnx", "--onnx")
    onnx.helper.set_model_props(graph, _metadata(bundle))
    data: bytes = graph.SerializeToString()
    rows, expected = _scored(model, rows)
    difference = _largest_difference(bundle, data, rows, expected)
    _write(path, data)
    return Exported(path, len(data), len(rows), difference)


def _metadata(bundle: Bundle) -> dict[str, str]:
    manifest = bundle.manifest
    return {
        "model_id": bundle.model_id,
        "kind": manifest.kind,
        "features": json.dumps(manifest.features),
        "categories": json.dumps(manifest.categories),
        "threshold_review": repr(manifest.thresholds.review),
        "threshold_decline": ""
        if manifest.thresholds.decline is None
        else repr(manifest.thresholds.decline),
    }


def _scored(model: Any, rows: Floats) -> tuple[Floats, Floats]:
    """The rows that the model can score, and its scores; an imported one may take no NaN."""
    try:
        return rows, predict_scores(model, rows)
    except ValueError:
        complete = rows[~np.isnan(rows).any(axis=1)]
        return complete, predict_scores(model, complete)


def _largest_difference(bundle: Bundle, data: bytes, rows: Floats, expected: Floats) -> float:
    runtime = extra_module("onnxruntime", "--onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        (scores,) = session.run([OUTPUT], {INPUT: rows})
    except Exception as error:  # onnxruntime's own, which share no base
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise FraudError(f"{bundle.path}: onnxruntime can't run what was made ({reason})") from None
    differences = np.abs(np.asarray(scores) - expected)
    # NaN is no score: it counts as a difference without bounds.
    worst = int(np.argmax(np.nan_to_num(differences, nan=np.inf)))
    if not differences[worst] <= TOLERANCE:
        raise FraudError(
            f"{bundle.path}: the ONNX file would score {scores[worst]:.9g} what the model scores "
            f"{expected[worst]:.9g}; that is the largest difference on {len(rows):,} sample rows, "
            f"and {TOLERANCE:g} is allowed"
        )
    return float(differences[worst])


def _write(path: str, data: bytes) -> None:
    target = Path(path)
    unfinished = target.with_name(f"{target.name}.unfinished")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(target)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise FraudError(f"--onnx {path}: can't be written ({error.strerror})") from None
