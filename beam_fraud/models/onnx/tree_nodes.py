"""Trees as the attributes of ONNX's operator TreeEnsemble, in double precision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from beam_fraud.extras import extra_module


class Mode(IntEnum):
    """When a split holds, as ONNX numbers it."""

    #: The value is at most the threshold.
    AT_MOST = 0
    #: The value is below the threshold.
    BELOW = 1
    #: The value is one of a set.
    MEMBER = 6


@dataclass(frozen=True)
class Leaf:
    """Where a row ends."""

    #: What it gets.
    value: float


@dataclass(frozen=True)
class Split:
    """Where rows part."""

    #: Position of the feature that decides.
    feature: int
    #: What it is compared with; of a set, its members.
    threshold: float | tuple[float, ...]
    #: When the row goes to `holds`.
    mode: Mode
    #: Whether a row without the value goes to `holds`.
    missing_holds: bool
    #: Number of the node for rows of which it holds, within the tree.
    holds: int
    #: Number of the node for the others.
    fails: int


#: Nodes by number, the root first.
Tree = Sequence[Leaf | Split]


def tree_attributes(trees: Iterable[Tree]) -> dict[str, Any]:
    """The attributes of an operator whose output is the sum of what the trees give a row.

    Args:
      trees: each of one node or more.

    Returns:
      Attribute to value, as version 5 of the domain ai.onnx.ml names them.
    """
    table = _Table()
    for tree in trees:
        table.add(tree)
    tensor = extra_module("onnx", "--onnx").numpy_helper.from_array
    return {
        "aggregate_function": 1,
        "post_transform": 0,
        "n_targets": 1,
        "tree_roots": table.roots,
        "nodes_featureids": [split.feature for split in table.splits],
        "nodes_modes": tensor(np.array([s.mode for s in table.splits], dtype=np.uint8)),
        "nodes_splits": tensor(
            np.array([0.0 if isinstance(s.threshold, tuple) else s.threshold for s in table.splits])
        ),
        "nodes_missing_value_tracks_true": [int(s.missing_holds) for s in table.splits],
        "nodes_truenodeids": [at for at, _ in table.holds],
        "nodes_trueleafs": [int(leaf) for _, leaf in table.holds],
        "nodes_falsenodeids": [at for at, _ in table.fails],
        "nodes_falseleafs": [int(leaf) for _, leaf in table.fails],
        "leaf_targetids": [0] * len(table.leaves),
        "leaf_weights": tensor(np.array(table.leaves, dtype=np.float64)),
        **table.members(tensor),
    }


class _Table:
    """Splits and leaves of all trees, numbered apart as ONNX numbers them."""

    def __init__(self) -> None:
        self.roots: list[int] = []
        self.splits: list[Split] = []
        self.leaves: list[float] = []
        self.holds: list[tuple[int, bool]] = []
        self.fails: list[tuple[int, bool]] = []

    def add(self, tree: Tree) -> None:
        """Number the nodes of one more tree."""
        if isinstance(tree[0], Leaf):
            # A root is a split; of a tree that has none both sides end in the same place.
            tree = [Split(0, 0.0, Mode.AT_MOST, True, 1, 1), tree[0]]
        places: list[tuple[int, bool]] = []
        splits, leaves = len(self.splits), len(self.leaves)
        for node in tree:
            places.append((leaves, True) if isinstance(node, Leaf) else (splits, False))
            leaves, splits = (
                (leaves + 1, splits) if isinstance(node, Leaf) else (leaves, splits + 1)
            )
        self.roots.append(places[0][0])
        for node in tree:
            if isinstance(node, Leaf):
                self.leaves.append(node.value)
            else:
                self.splits.append(node)
                self.holds.append(places[node.holds])
                self.fails.append(places[node.fails])

    def members(self, tensor: Any) -> dict[str, Any]:
        """The sets of all splits by one, a NaN behind each; nothing if there are none."""
        sets = [s.threshold for s in self.splits if isinstance(s.threshold, tuple)]
        if not sets:
            return {}
        return {"membership_values": tensor(np.array([v for s in sets for v in (*s, np.nan)]))}
