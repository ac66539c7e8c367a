"""scikit-learn's one-hot encoder for ONNX, absent and rare categories included.

The converter of skl2onnx knows neither a category that is NaN nor a column for the rare ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import issparse

from beam_fraud.extras import extra_module
from beam_fraud.models.onnx.nodes import Nodes
from beam_fraud.models.onnx.unsupported import UnsupportedError

Floats = npt.NDArray[np.float64]


def one_hot_shapes(operator: Any) -> None:
    """Say how many columns come out: a shape calculator of skl2onnx."""
    types = extra_module("skl2onnx.common.data_types", "--onnx")
    width = len(operator.raw_operator.get_feature_names_out())
    operator.outputs[0].type = types.DoubleTensorType([None, width])


def convert_one_hot(scope: Any, operator: Any, container: Any) -> None:
    """Write the encoder's nodes: a converter of skl2onnx.

    Raises:
      UnsupportedError: its categories are no numbers.
    """
    graph = Nodes(scope, container)
    blocks = []
    for i, (known, lines) in enumerate(_tables(operator.raw_operator)):
        column = graph.add("Gather", operator.inputs[0].full_name, graph.whole([i]), axis=1)
        present = known[~np.isnan(known)]
        matches = graph.add("Equal", column, graph.numbers(present[None, :]))
        if len(present) < len(known):
            matches = graph.add("Concat", matches, graph.add("IsNaN", column), axis=1)
        found = graph.double(matches)
        # What no category matches has a line of its own, the last.
        some = graph.add("ReduceSum", found, graph.whole([1]), keepdims=1)
        other = graph.add("Sub", graph.numbers(np.ones((1, 1))), some)
        both = graph.add("Concat", found, other, axis=1)
        blocks.append(graph.add("MatMul", both, graph.numbers(lines)))
    graph.add("Concat", *blocks, out=operator.outputs[0].full_name, axis=1)


def _tables(encoder: Any) -> Iterator[tuple[Floats, Floats]]:
    """Of each column its categories, NaN last, and what the encoder makes of each.

    The second array has one more line: what it makes of an unknown category.
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
        made = encoder.transform(probes)
        dense = np.asarray(made.toarray() if issparse(made) else made, dtype=np.float64)
        yield known, dense[:, begin : begin + width]
        begin += width


def _groups(encoder: Any) -> bool:
    return encoder.max_categories is not None or encoder.min_frequency is not None
