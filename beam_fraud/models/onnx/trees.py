"""Classifiers made of trees, for ONNX.

The converters of skl2onnx and onnxmltools write them in single precision, in which a value and a
threshold that differ may be equal, and miss splits by category. Here they stay double.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beam_fraud.models.onnx.nodes import Nodes
from beam_fraud.models.onnx.tree_nodes import Tree, tree_attributes

#: A converter of skl2onnx: scope, operator and container to nodes in the container.
Converter = Callable[[Any, Any, Any], None]


def tree_converter(read: Callable[[Any], list[Tree]], *, log_odds: bool, single: bool) -> Converter:
    """A converter of a kind of classifier.

    Args:
      read: its trees, from the fitted classifier.
      log_odds: whether what they give sums up to log-odds, and not to the score itself.
      single: whether they look at values in single precision.
    """

    def convert(scope: Any, operator: Any, container: Any) -> None:
        graph = Nodes(scope, container)
        source = operator.inputs[0].full_name
        source = graph.single(source) if single else source
        found = graph.add("TreeEnsemble", source, **tree_attributes(read(operator.raw_operator)))
        fraud = graph.add("Sigmoid", found) if log_odds else found
        graph.probabilities(fraud, operator)

    return convert
