"""Write nodes of an ONNX graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import extra_module

#: Operator versions that skl2onnx may use.
OPSETS = {"": 18, "ai.onnx.ml": 3}
#: Domain of TreeEnsemble, and the oldest version with double-precision trees. skl2onnx does not
#: know it yet, but accepts its operators; the others are the same in both.
TREES_DOMAIN, TREES_VERSION = "ai.onnx.ml", 5


def classifier_shapes(operator: Any) -> None:
    """Set the outputs, a label and two probabilities: a shape calculator of skl2onnx."""
    types = extra_module("skl2onnx.common.data_types", "--onnx")
    operator.outputs[0].type = types.Int64TensorType([None])
    operator.outputs[1].type = types.DoubleTensorType([None, 2])


class Nodes:
    """The nodes that a converter of skl2onnx adds to its graph."""

    def __init__(self, scope: Any, container: Any) -> None:
        self._scope = scope
        self._container = container
        self._types = extra_module("onnx", "--onnx").TensorProto

    def add(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """Add a node.

        Args:
          kind: name of the operator.
          inputs: names of the inputs.
          out: name of the output; None creates one.
          attributes: of the operator.

        Returns:
          The name of the output.
        """
        output: str = out or self._scope.get_unique_variable_name(kind.lower())
        domain = TREES_DOMAIN if kind == "TreeEnsemble" else ""
        self._container.add_node(
            kind,
            list(inputs),
            output,
            op_domain=domain,
            op_version=OPSETS[domain],
            name=self._scope.get_unique_operator_name(kind),
            **attributes,
        )
        return output

    def double(self, source: str) -> str:
        """Cast to double precision."""
        return self.add("Cast", source, to=self._types.DOUBLE)

    def single(self, source: str) -> str:
        """Round to single precision, in double precision."""
        return self.double(self.add("Cast", source, to=self._types.FLOAT))

    def probabilities(self, fraud: str, operator: Any) -> None:
        """Convert float64[n, 1] scores to the outputs that skl2onnx expects of a classifier."""
        genuine = self.add("Sub", self.numbers(np.ones((1, 1))), fraud)
        label, probabilities = (output.full_name for output in operator.outputs)
        self.add("Concat", genuine, fraud, out=probabilities, axis=1)
        self.add("ArgMax", probabilities, out=label, axis=1, keepdims=0)

    def numbers(self, values: npt.NDArray[np.float64]) -> str:
        """Add a constant float64 array."""
        return self._constant(np.asarray(values, dtype=np.float64), self._types.DOUBLE)

    def whole(self, values: list[int]) -> str:
        """Add a constant int64[n]."""
        return self._constant(np.asarray(values, dtype=np.int64), self._types.INT64)

    def _constant(self, values: npt.NDArray[Any], kind: int) -> str:
        name: str = self._scope.get_unique_variable_name("constant")
        self._container.add_initializer(name, kind, list(values.shape), values.ravel().tolist())
        return name


class UnsupportedError(Exception):
    """A model or a part of one without a counterpart in ONNX; the message names it."""
