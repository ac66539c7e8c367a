"""One scikit-learn classifier, or one of XGBoost or LightGBM, as an ONNX graph."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from beam_fraud.errors import FraudError
from beam_fraud.extras import extra_module
from beam_fraud.models.onnx.converters import converters_for
from beam_fraud.models.onnx.nodes import OPSETS
from beam_fraud.models.onnx.unsupported import UnsupportedError

#: Name of the graph's input, float64[n, features].
INPUT = "features"


def converted(model: Any, features: int) -> Any:
    """Convert a classifier by skl2onnx, with converters of this package where it needs them.

    Args:
      model: fitted, of two classes, or a pipeline that ends in one.
      features: how many it takes.

    Returns:
      An `onnx.ModelProto` whose second output is float64[n, 2], the probabilities.

    Raises:
      FraudError: the extra `onnx` is not installed.
      UnsupportedError: there is no converter for it or for a part of it.
    """
    skl2onnx = extra_module("skl2onnx", "--onnx")
    types = extra_module("skl2onnx.common.data_types", "--onnx")
    converters, shapes = converters_for(model)
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    # Without it scikit-learn's classifiers give a dictionary for each row.
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
    except Exception as error:  # whatever a converter makes of a model that it doesn't know
        logging.getLogger(__name__).debug("skl2onnx", exc_info=error)
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise UnsupportedError(f"{type(last).__name__} ({reason})") from None
