"""Export a model as an ONNX file after a comparison of its scores with the model's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import Code, FraudError, extra_module
from beam_fraud.models.bundle import Bundle, load_model, read_reference
from beam_fraud.models.onnx.graph import INPUT, OUTPUT, onnx_graph
from beam_fraud.models.onnx.nodes import UnsupportedError
from beam_fraud.models.onnx.trees import Mode
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.reference import SCORE, Distribution, Reference
from beam_fraud.storage.atomic import write_file
from beam_fraud.wording import first_line

Floats = npt.NDArray[np.float64]
#: Rows of each kind.
PROBES = 2000
#: Share of absent values.
ABSENT = 0.1
#: Limit of values at thresholds: plausible values that single precision can hold.
LARGEST = 1e30


def probe_rows(reference: Reference, features: int, graph: Any) -> Floats:
    """Return rows like training rows, rows with NaN, and rows at thresholds of splits.

    Args:
      reference: the distributions of the features; normal numbers replace unknown ones.
      features: number of features.
      graph: the converted model; its thresholds and their neighbours are probed.

    Returns:
      float64[n, features], NaN where a value is absent.
    """
    random = np.random.default_rng(0)
    known = [d for d in reference.distributions if d.feature != SCORE]
    columns = [
        _values(known[i], random) if known else random.normal(size=PROBES) for i in range(features)
    ]
    typical = np.column_stack(columns)
    gaps = np.where(random.random(typical.shape) < ABSENT, np.nan, typical)
    empty = np.full((1, features), np.nan)
    # Category codes are whole: libraries round others differently.
    numeric = {i for i in range(features) if not known or known[i].kind == "numeric"}
    edges = sorted(edge for edge in _thresholds(graph) if edge[0] in numeric)
    return np.concatenate([typical, gaps, _on_edges(typical, edges, random), empty])


def _values(distribution: Distribution, random: np.random.Generator) -> Floats:
    if distribution.kind == "categorical":
        # The code after the last one means an unknown category.
        codes = np.append(np.arange(len(distribution.categories) + 1.0), np.nan)
        return random.choice(codes, PROBES)
    edges = np.array(distribution.edges or (0.0,))
    span = max(float(np.ptp(edges)), 1.0)
    ends = np.array([edges[0] - span, *edges, edges[-1] + span])
    at = random.integers(0, len(ends) - 1, PROBES)
    between = random.uniform(ends[at], ends[at + 1])
    # Counted features are whole, and bin edges are values that occurred.
    odd = random.integers(0, 3, PROBES)
    return np.select([odd == 0, odd == 1], [random.choice(edges, PROBES), between.round()], between)


def _on_edges(base: Floats, edges: list[tuple[int, float]], random: np.random.Generator) -> Floats:
    """Return the rows with one value each at a threshold, or at its nearest neighbour."""
    if not edges:
        return base[:0]
    rows = base.copy()
    chosen = random.integers(0, len(edges), len(rows))
    feature = np.array([edges[i][0] for i in chosen])
    value = np.array([edges[i][1] for i in chosen])
    towards = random.choice([-np.inf, np.inf], len(rows))
    beside = np.where(random.random(len(rows)) < 0.5, value, np.nextafter(value, towards))
    # LightGBM's highest threshold is 1e300, for all that is higher.
    usable = np.abs(beside) < LARGEST
    rows[np.flatnonzero(usable), feature[usable]] = beside[usable]
    return rows


def _thresholds(graph: Any) -> set[tuple[int, float]]:
    """Return feature and threshold of all numeric splits, in our trees and skl2onnx's."""
    onnx = extra_module("onnx", "--onnx")
    thresholds: set[tuple[int, float]] = set()
    for node in graph.graph.node:
        nodes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if "nodes_splits" in nodes:
            values = onnx.numpy_helper.to_array(nodes["nodes_splits"]).tolist()
            sets = (onnx.numpy_helper.to_array(nodes["nodes_modes"]) == Mode.MEMBER).tolist()
        elif "nodes_values" in nodes:
            values, sets = (
                nodes["nodes_values"],
                [m == b"LEAF" for m in nodes["nodes_modes"]],
            )
        else:
            continue
        splits = zip(nodes["nodes_featureids"], values, sets, strict=True)
        thresholds.update((feature, value) for feature, value, no_number in splits if not no_number)
    return thresholds


#: Maximum difference between a score of the file and the model's.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Exported:
    """An ONNX file whose scores were compared with its model's."""

    #: Path of the file.
    path: str
    #: Its size in bytes.
    size: int
    #: Number of compared rows.
    rows_compared: int
    #: Largest difference of a score.
    largest_difference: float


def export_onnx(bundle: Bundle, path: str) -> Exported:
    """Convert a bundle's model and write the file atomically.

    Args:
      bundle: the bundle of the model.
      path: a local file; an earlier one is replaced.

    Raises:
      FraudError: the extra `onnx` is not installed, the model has no converter, its converted
        scores differ, or the file cannot be written.
    """
    extra_module("onnxruntime", "--onnx")
    model, features = load_model(bundle), len(bundle.manifest.features)
    try:
        graph = onnx_graph(model, features)
    except UnsupportedError as error:
        raise FraudError(
            f"{bundle.path}: no ONNX file can be made of {error}", Code.ONNX_IMPOSSIBLE
        ) from None
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
    """Return the rows that the model can score, and the scores; imported models may refuse NaN."""
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
    except Exception as error:  # onnxruntime's exceptions share no base class
        reason = first_line(error)
        raise FraudError(
            f"{bundle.path}: onnxruntime can't run what was made ({reason})", Code.ONNX_IMPOSSIBLE
        ) from None
    differences = np.abs(np.asarray(scores) - expected)
    # NaN is no score: it counts as an infinite difference.
    worst = int(np.argmax(np.nan_to_num(differences, nan=np.inf)))
    if not differences[worst] <= TOLERANCE:
        raise FraudError(
            f"{bundle.path}: the ONNX file would score {scores[worst]:.9g} what the model scores "
            f"{expected[worst]:.9g}; that is the largest difference on {len(rows):,} sample rows, "
            f"and {TOLERANCE:g} is allowed",
            Code.ONNX_IMPOSSIBLE,
        )
    return float(differences[worst])


def _write(path: str, data: bytes) -> None:
    try:
        write_file(Path(path), data)
    except OSError as error:
        raise FraudError(
            f"--onnx {path}: can't be written ({error.strerror})", Code.OUTPUT_UNWRITABLE
        ) from None
