"""A network of dense layers, for ONNX."""

from __future__ import annotations

from typing import Any

from beam_fraud.models.onnx.nodes import Nodes


def convert_network(scope: Any, operator: Any, container: Any) -> None:
    """Write the nodes of a fitted `KerasClassifier`: a converter of skl2onnx."""
    graph = Nodes(scope, container)
    network = operator.raw_operator.network_
    found = operator.inputs[0].full_name
    last = len(network.kernels) - 1
    for i, (kernel, bias) in enumerate(zip(network.kernels, network.biases, strict=True)):
        found = graph.add("MatMul", found, graph.numbers(kernel))
        found = graph.add("Add", found, graph.numbers(bias[None, :]))
        found = graph.add("Relu" if i < last else "Sigmoid", found)
    graph.probabilities(found, operator)
