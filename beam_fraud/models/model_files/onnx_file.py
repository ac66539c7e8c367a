"""Open ONNX files of classifiers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from beam_fraud.errors import Code, FraudError, extra_module
from beam_fraud.models.estimators.imported import OnnxClassifier, OnnxInput

#: NumPy's name of each type of an input that features can have, by its number in ONNX.
_DTYPES = {1: "float32", 7: "int64", 8: "str", 11: "float64"}
#: Attributes that hold the classes.
_CLASSES = ("classlabels_int64s", "classlabels_ints", "classlabels_strings")
#: Operators that encode strings, and the attribute with those that they know.
_ENCODERS = (("OneHotEncoder", "cats_strings"), ("LabelEncoder", "keys_strings"))


def open_onnx(data: bytes) -> OnnxClassifier:
    """Open a classifier: tensors of features in, probabilities out, with or without ZipMap.

    Raises:
      FraudError: a package is not installed, or the graph has other inputs or outputs.
    """
    onnx = extra_module("onnx", "the file")
    extra_module("onnxruntime", "the file")
    model = onnx.load_model_from_string(data)
    onnx.checker.check_model(model)
    external = onnx.TensorProto.EXTERNAL
    if any(tensor.data_location == external for tensor in model.graph.initializer):
        raise FraudError(
            "it has its weights in other files; save it as one file (save_as_external_data=False)",
            Code.MODEL_UNSUITED,
        )
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_input(one) for one in model.graph.input if one.name not in constants)
    classes = _classes(onnx, model.graph)
    output = _without_zip_map(onnx, model.graph) or _probabilities(model.graph)
    if output == "score" and "threshold_review" in metadata(model):
        classes = (1,)  # the graph of `models export`
    return OnnxClassifier(
        model.SerializeToString(), inputs, output, classes, sum(put.width for put in inputs)
    )


def metadata(model: Any) -> dict[str, str]:
    """Return the properties of an ONNX model."""
    return {entry.key: entry.value for entry in model.metadata_props}


def own_features(graph: bytes) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Return the features and categories that `models export` wrote into a graph; empty if none."""
    model = extra_module("onnx", "the file").load_model_from_string(graph)
    values = metadata(model)
    if "threshold_review" not in values:
        return (), {}
    categories = json.loads(values.get("categories", "{}"))
    names = tuple(json.loads(values.get("features", "[]")))
    return names, {name: tuple(known) for name, known in categories.items()}


def encoded_strings(graph: bytes) -> tuple[tuple[str, ...], ...]:
    """Return the categories of each encoder of strings in a graph."""
    model = extra_module("onnx", "the file").load_model_from_string(graph)
    return tuple(
        tuple(value.decode() for value in attribute.strings)
        for node in model.graph.node
        for attribute in node.attribute
        if (node.op_type, attribute.name) in _ENCODERS and attribute.strings
    )


def _input(value: Any) -> OnnxInput:
    tensor = value.type.tensor_type
    dtype = _DTYPES.get(tensor.elem_type)
    sizes = [dimension.dim_value for dimension in tensor.shape.dim]
    if dtype is None or len(sizes) != 2 or sizes[1] < 1:
        raise FraudError(
            f"its input {value.name!r} is no tensor of rows by a fixed number of features; convert "
            "the model with an input of shape [None, features]",
            Code.MODEL_UNSUITED,
        )
    return OnnxInput(value.name, int(sizes[1]), dtype)


def _classes(onnx: Any, graph: Any) -> tuple[Any, ...]:
    for node in reversed(graph.node):
        for attribute in node.attribute:
            if attribute.name in _CLASSES:
                values = onnx.helper.get_attribute_value(attribute)
                if len(values):
                    return tuple(v.decode() if isinstance(v, bytes) else int(v) for v in values)
    for tensor in graph.initializer:
        if tensor.name.startswith("classes"):
            values = np.ravel(onnx.numpy_helper.to_array(tensor)).tolist()
            return tuple(v.decode() if isinstance(v, bytes) else v for v in values)
    return ()


def _without_zip_map(onnx: Any, graph: Any) -> str | None:
    """Replace a ZipMap, a dictionary for each row, by the tensor before it; return its name."""
    for node in graph.node:
        if node.op_type == "ZipMap":
            (name,) = node.input
            (output,) = [one for one in graph.output if one.name == node.output[0]]
            graph.output.remove(output)
            graph.node.remove(node)
            shape = [None, None]
            graph.output.append(
                onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
            )
            return str(name)
    return None


def _probabilities(graph: Any) -> str:
    floats = [out for out in graph.output if out.type.tensor_type.elem_type in (1, 11)]
    named = [out for out in floats if "prob" in out.name.lower()] or floats
    labelled = len(graph.output) > len(floats) or [out.name for out in named] == ["score"]
    if len(named) != 1 or not labelled:
        shown = ", ".join(out.name for out in graph.output)
        raise FraudError(
            f"it has no output of probabilities beside the label (its outputs are {shown}); "
            "convert a classifier, with the option zipmap=False",
            Code.MODEL_UNSUITED,
        )
    return str(named[0].name)
