"""Converters of our own for pipelines that skl2onnx converts.

ONNX's imputer knows single precision only, and skl2onnx's one-hot converter neither a category NaN
nor a column of rare categories: so both are written here, as are our networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import issparse
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from beam_fraud.errors import extra_module
from beam_fraud.models.network.classifier import KerasClassifier
from beam_fraud.models.onnx.nodes import Nodes, UnsupportedError, classifier_shapes
from beam_fraud.models.onnx.trees import (
    Converter,
    forest_trees,
    hist_gradient_boosting_trees,
    lightgbm_trees,
    tree_converter,
    xgboost_trees,
)


def imputer_shapes(operator: Any) -> None:
    """Set the number of output columns: a shape calculator of skl2onnx."""
    types = extra_module("skl2onnx.common.data_types", "--onnx")
    width = len(operator.raw_operator.statistics_)
    operator.outputs[0].type = types.DoubleTensorType([None, width])


def convert_imputer(scope: Any, operator: Any, container: Any) -> None:
    """Write the imputer's nodes: a converter of skl2onnx.

    Raises:
      UnsupportedError: it replaces values other than NaN, or adds or drops columns.
    """
    imputer = operator.raw_operator
    values = np.asarray(imputer.statistics_, dtype=np.float64)
    if not np.isnan(imputer.missing_values) or imputer.add_indicator or np.isnan(values).any():
        raise UnsupportedError("SimpleImputer with such settings")
    graph = Nodes(scope, container)
    source = operator.inputs[0].full_name
    absent = graph.add("IsNaN", source)
    filled = graph.numbers(values[None, :])
    graph.add("Where", absent, filled, source, out=operator.outputs[0].full_name)


def convert_network(scope: Any, operator: Any, container: Any) -> None:
    """Write the nodes of a fitted `KerasClassifier`: a converter of skl2onnx."""
    graph = Nodes(scope, container)
    network = operator.raw_operator.network_
    layer = operator.inputs[0].full_name
    last = len(network.kernels) - 1
    for i, (kernel, bias) in enumerate(zip(network.kernels, network.biases, strict=True)):
        layer = graph.add("MatMul", layer, graph.numbers(kernel))
        layer = graph.add("Add", layer, graph.numbers(bias[None, :]))
        layer = graph.add("Relu" if i < last else "Sigmoid", layer)
    graph.probabilities(layer, operator)


Floats = npt.NDArray[np.float64]


def one_hot_shapes(operator: Any) -> None:
    """Set the number of output columns: a shape calculator of skl2onnx."""
    types = extra_module("skl2onnx.common.data_types", "--onnx")
    width = len(operator.raw_operator.get_feature_names_out())
    operator.outputs[0].type = types.DoubleTensorType([None, width])


def convert_one_hot(scope: Any, operator: Any, container: Any) -> None:
    """Write the encoder's nodes: a converter of skl2onnx.

    Raises:
      UnsupportedError: its categories are not numbers.
    """
    graph = Nodes(scope, container)
    blocks = []
    for i, (known, lines) in enumerate(_tables(operator.raw_operator)):
        column = graph.add("Gather", operator.inputs[0].full_name, graph.whole([i]), axis=1)
        present = known[~np.isnan(known)]
        matches = graph.add("Equal", column, graph.numbers(present[None, :]))
        if len(present) < len(known):
            matches = graph.add("Concat", matches, graph.add("IsNaN", column), axis=1)
        encoded = graph.double(matches)
        # The last row is for values outside all categories.
        some = graph.add("ReduceSum", encoded, graph.whole([1]), keepdims=1)
        other = graph.add("Sub", graph.numbers(np.ones((1, 1))), some)
        both = graph.add("Concat", encoded, other, axis=1)
        blocks.append(graph.add("MatMul", both, graph.numbers(lines)))
    graph.add("Concat", *blocks, out=operator.outputs[0].full_name, axis=1)


def _tables(encoder: Any) -> Iterator[tuple[Floats, Floats]]:
    """Yield each column's categories, NaN last, and the encoding of each.

    The second array has one more row: the encoding of an unknown category.
    """
    if encoder.drop is not None:
        raise UnsupportedError("OneHotEncoder with drop")
    begin = 0
    for i, categories in enumerate(encoder.categories_):
        if categories.dtype.kind not in "fiu":
            raise UnsupportedError("OneHotEncoder of categories that are no numbers")
        known = np.asarray(categories, dtype=np.float64)
        rare = encoder.infrequent_categories_[i] if _groups(encoder) else None
        width = len(known) if rare is None else len(known) - len(rare) + 1
        probes = np.tile([column[0] for column in encoder.categories_], (len(known) + 1, 1))
        probes[:, i] = np.append(known, np.nanmax(np.append(known, 0.0)) + 1)
        encoded = encoder.transform(probes)
        dense = np.asarray(encoded.toarray() if issparse(encoded) else encoded, dtype=np.float64)
        yield known, dense[:, begin : begin + width]
        begin += width


def _groups(encoder: Any) -> bool:
    return encoder.max_categories is not None or encoder.min_frequency is not None


_FOREST = tree_converter(forest_trees, log_odds=False, single=True)
#: Class to converter.
_CLASSIFIERS: dict[type, Converter] = {
    RandomForestClassifier: _FOREST,
    ExtraTreesClassifier: _FOREST,
    DecisionTreeClassifier: _FOREST,
    HistGradientBoostingClassifier: tree_converter(
        hist_gradient_boosting_trees, log_odds=True, single=False
    ),
    KerasClassifier: convert_network,
}
#: Class name to converter: these packages are optional and slow to import.
_OPTIONAL = {
    ("xgboost", "XGBClassifier"): tree_converter(xgboost_trees, log_odds=True, single=True),
    ("lightgbm", "LGBMClassifier"): tree_converter(lightgbm_trees, log_odds=True, single=False),
}


def converters_for(model: Any) -> tuple[dict[type, Any], dict[type, Any]]:
    """Return the converters and shape calculators that a model needs.

    Args:
      model: a fitted classifier, or a pipeline that ends in one.

    Returns:
      Class to converter, and class to shape calculator, as skl2onnx takes them.
    """
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    classifiers = dict(_CLASSIFIERS)
    name = (type(last).__module__.split(".")[0], type(last).__name__)
    if name in _OPTIONAL:
        classifiers[type(last)] = _OPTIONAL[name]
    converters: dict[type, Any] = {
        **classifiers,
        OneHotEncoder: convert_one_hot,
        SimpleImputer: convert_imputer,
    }
    shapes: dict[type, Any] = {
        **dict.fromkeys(classifiers, classifier_shapes),
        OneHotEncoder: one_hot_shapes,
        SimpleImputer: imputer_shapes,
    }
    return converters, shapes
