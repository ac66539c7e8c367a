"""Convert a model, or a combination of models, to one ONNX graph from features to the score."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np

from beam_fraud.errors import FraudError, extra_module
from beam_fraud.models.calibration import SMOOTHING, Calibrated, Platt
from beam_fraud.models.estimators.anomalies import RankedAnomalies
from beam_fraud.models.estimators.ensemble import (
    EnsembleClassifier,
    LogitAverage,
    Member,
    StackedLogits,
)
from beam_fraud.models.onnx.converters import converters_for
from beam_fraud.models.onnx.nodes import OPSETS, TREES_DOMAIN, TREES_VERSION, UnsupportedError
from beam_fraud.models.resampling.under import PriorCorrected
from beam_fraud.wording import first_line

#: Name of the graph's input, float64[n, features].
INPUT = "features"


def converted(model: Any, features: int) -> Any:
    """Convert a classifier by skl2onnx, with converters of this package where it needs them.

    Args:
      model: fitted, of two classes, or a pipeline that ends in one.
      features: number of its features.

    Returns:
      An `onnx.ModelProto` whose second output is float64[n, 2], the probabilities.

    Raises:
      FraudError: the extra `onnx` is not installed.
      UnsupportedError: the model or a part of it has no converter.
    """
    skl2onnx = extra_module("skl2onnx", "--onnx")
    types = extra_module("skl2onnx.common.data_types", "--onnx")
    converters, shapes = converters_for(model)
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    # Without this option, scikit-learn's classifiers return a dictionary per row.
    ours = type(last).__module__.startswith("sklearn.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return skl2onnx.convert_sklearn(
                model,
                initial_types=[(INPUT, types.DoubleTensorType([None, features]))],
                options={type(last): {"zipmap": False}} if ours else None,
                target_opset=OPSETS,
                custom_conversion_functions=converters,
                custom_shape_calculators=shapes,
            )
    except (FraudError, UnsupportedError):
        raise
    except Exception as error:  # a converter may raise anything on an unknown model
        logging.getLogger(__name__).debug("skl2onnx", exc_info=error)
        raise UnsupportedError(f"{type(last).__name__} ({first_line(error)})") from None


#: Name of the graph's output, float64[n].
OUTPUT = "score"
#: Version of the file format for these operators.
IR_VERSION = 10


def onnx_graph(model: Any, features: int) -> Any:
    """Convert a classifier, plain, calibrated or an ensemble.

    Args:
      model: fitted, of two classes, genuine first.
      features: number of its features.

    Returns:
      An `onnx.ModelProto` from `features`, float64[n, features] with NaN for absent values, to
      `score`, float64[n].

    Raises:
      FraudError: the extra `onnx` is not installed.
      UnsupportedError: the model or a part of it has no converter.
    """
    onnx = extra_module("onnx", "--onnx")
    graph = _Graph(features)
    graph.add("Identity", graph.score(model), out=OUTPUT)
    double = onnx.TensorProto.DOUBLE
    whole = onnx.helper.make_graph(
        graph.nodes,
        "score",
        [onnx.helper.make_tensor_value_info(INPUT, double, [None, features])],
        [onnx.helper.make_tensor_value_info(OUTPUT, double, [None])],
        graph.constants,
    )
    versions = dict(OPSETS)
    if any(node.op_type == "TreeEnsemble" for node in graph.nodes):
        versions[TREES_DOMAIN] = TREES_VERSION
    onnx_model = onnx.helper.make_model(
        whole,
        opset_imports=[onnx.helper.make_opsetid(*version) for version in versions.items()],
        ir_version=IR_VERSION,
        producer_name="beam-fraud",
    )
    try:
        onnx.checker.check_model(onnx_model)
    except onnx.checker.ValidationError as error:
        raise UnsupportedError(f"{type(model).__name__} ({first_line(error)})") from None
    return onnx_model


class _Graph:
    """The nodes and constants of all parts, in an order in which they can be computed."""

    def __init__(self, features: int) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._features = features
        self._models = 0
        self._onnx = extra_module("onnx", "--onnx")
        self._compose = extra_module("onnx.compose", "--onnx")

    def score(self, model: Any) -> str:
        """Add a model; return the name of its score, float64[n]."""
        if isinstance(model, Member):
            return self.score(model.model_)
        if isinstance(model, Calibrated):
            if not isinstance(model.calibration, Platt):
                raise UnsupportedError("scores that are calibrated by steps (isotonic)")
            odds = self._log_odds(self.score(model.model))
            scaled = self.add("Mul", odds, self._number(model.calibration.slope))
            shifted = self.add("Add", scaled, self._number(model.calibration.intercept))
            return self.add("Sigmoid", shifted)
        if isinstance(model, PriorCorrected):
            score = self.score(model.model)
            weighted = self.add("Mul", score, self._number(model.kept))
            genuine = self.add("Sub", self._number(1.0), score)
            return self.add("Div", weighted, self.add("Add", weighted, genuine))
        if isinstance(model, EnsembleClassifier):
            return self._ensemble(model)
        if isinstance(model, RankedAnomalies):
            raise UnsupportedError(f"{type(model).__name__}: its scores are ranks")
        return self._one(model)

    def add(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """Add a node; return the name of its output, a new one without `out`."""
        output = out or f"combined_{len(self.nodes)}"
        self.nodes.append(
            self._onnx.helper.make_node(kind, inputs, [output], name=output, **attributes)
        )
        return output

    def _ensemble(self, model: EnsembleClassifier) -> str:
        if isinstance(model, LogitAverage):
            weights, intercept = model.shares(), 0.0
        elif isinstance(model, StackedLogits):
            weights, intercept = model.coefficients_, model.intercept_
        else:
            raise UnsupportedError(f"{type(model).__name__}: its scores are ranks")
        total = self._number(intercept)
        for weight, (_, member) in zip(weights, model.members_, strict=True):
            odds = self._log_odds(self.score(member))
            total = self.add("Add", total, self.add("Mul", odds, self._number(weight)))
        return self.add("Sigmoid", total)

    def _log_odds(self, score: str) -> str:
        """Add the nodes of `log_odds`."""
        smoothing = self._number(SMOOTHING)
        genuine = self.add("Sub", self._number(1.0), score)
        odds = self.add(
            "Div", self.add("Add", score, smoothing), self.add("Add", genuine, smoothing)
        )
        return self.add("Log", odds)

    def _one(self, model: Any) -> str:
        prefix = f"model_{self._models}_"
        self._models += 1
        graph = self._compose.add_prefix(converted(model, self._features), prefix).graph
        for node in graph.node:
            node.input[:] = [INPUT if name == prefix + INPUT else name for name in node.input]
        self.nodes.extend(graph.node)
        self.constants.extend(graph.initializer)
        # The first output is the label, which is not used.
        fraud = self.add("Gather", graph.output[1].name, self._constant(np.array(1)), axis=1)
        # Outputs of skl2onnx's own converters may be single precision.
        return self.add("Cast", fraud, to=self._onnx.TensorProto.DOUBLE)

    def _number(self, value: float) -> str:
        return self._constant(np.array([value], dtype=np.float64))

    def _constant(self, value: Any) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(self._onnx.numpy_helper.from_array(value, name))
        return name
