"""scikit-learn's imputer for ONNX: the one of ONNX itself knows single precision only."""

from __future__ import annotations

from typing import Any

import numpy as np

from beam_fraud.extras import extra_module
from beam_fraud.models.onnx.nodes import Nodes
from beam_fraud.models.onnx.unsupported import UnsupportedError


def imputer_shapes(operator: Any) -> None:
    """Say how many columns come out: a shape calculator of skl2onnx."""
    types = extra_module("skl2onnx.common.data_types", "--onnx")
    width = len(operator.raw_operator.statistics_)
    operator.outputs[0].type = types.DoubleTensorType([None, width])


def convert_imputer(scope: Any, operator: Any, container: Any) -> None:
    """Write the imputer's nodes: a converter of skl2onnx.

    Raises:
      UnsupportedError: it fills something else than NaN, adds columns or leaves some out.
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
