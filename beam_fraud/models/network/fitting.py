"""Fit a Keras network epoch by epoch on JAX.

This is what Keras calls a training loop from scratch: its layers, loss and optimiser, in a step
that is compiled once per shape of network. `Model.fit` would compile two steps at each call, which
takes seconds, and would shuffle by NumPy's global random numbers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from beam_fraud.errors import Code, FraudError, extra_module
from beam_fraud.models.network.dense import DenseNetwork
from beam_fraud.models.network.history import Counted, Epoch, count

#: Environment variable of Keras' backend, read at its first import.
VARIABLE = "KERAS_BACKEND"
_WHAT = "--model keras"


@dataclass(frozen=True)
class Backend:
    """The modules for fitting."""

    #: Keras 3.
    keras: ModuleType
    #: JAX.
    jax: ModuleType


def keras_on_jax() -> Backend:
    """Import Keras with JAX below it, and leave the environment as it was.

    Raises:
      FraudError: a package is missing, or this process uses Keras with another backend.
    """
    wanted = os.environ.get(VARIABLE)
    if "keras" not in sys.modules and wanted not in (None, "", "jax"):
        raise FraudError(
            f"{_WHAT}: runs on jax, and {VARIABLE} is {wanted}; unset it", Code.TRAINING_FAILED
        )
    jax = extra_module("jax", _WHAT)
    os.environ[VARIABLE] = "jax"
    try:
        keras = extra_module("keras", _WHAT)
    finally:
        if wanted is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = wanted
    if keras.backend.backend() != "jax":
        raise FraudError(
            f"{_WHAT}: runs on jax, and this process has imported keras with "
            f"{keras.backend.backend()}; train in another process",
            Code.TRAINING_FAILED,
        )
    return Backend(keras, jax)


Floats = npt.NDArray[np.float32]
#: Maximum of networks whose compiled steps are cached.
_KEPT = 8


@dataclass(frozen=True)
class Shape:
    """The shape of a network, for which a step is compiled."""

    #: Input columns.
    inputs: int
    #: Units of each hidden layer.
    units: int
    #: Hidden layers; dropout follows each but the first.
    layers: int
    #: Dropout rate.
    dropout: float


@dataclass(frozen=True)
class Examples:
    """Rows to fit or measure a network on."""

    #: float32[n, inputs], without NaN.
    matrix: Floats
    #: float32[n], 0 or 1.
    labels: Floats
    #: float32[n]: weight of each row's loss.
    weights: Floats


@dataclass(frozen=True)
class State:
    """A network and its optimiser between two steps, as JAX arrays."""

    #: Kernel and bias of each layer.
    trainable: Any
    #: Random state of each dropout.
    other: Any
    #: Adam's.
    optimizer: Any

    def network(self) -> DenseNetwork:
        """Return the network as it is now."""
        arrays = [np.asarray(array, dtype=np.float64) for array in self.trainable]
        return DenseNetwork(tuple(arrays[0::2]), tuple(arrays[1::2]))


def fit_epochs(
    shape: Shape,
    rows: Examples,
    batch: int,
    learning_rate: float,
    seed: int,
    watched: Examples | None = None,
) -> Iterator[tuple[Epoch, State]]:
    """Fit one epoch per step of the iterator.

    Args:
      shape: of the network.
      rows: training rows.
      batch: batch size in rows.
      learning_rate: learning rate of Adam.
      seed: of first weights, order of rows and dropout.
      watched: rows to score after each epoch.

    Yields:
      Each epoch with the network after it; reproducible for equal arguments, versions and
      processors.

    Raises:
      FraudError: Keras or JAX is not installed, Keras uses another backend, or the weights diverge.
    """
    # Compiled functions outlive a module that is removed from this process.
    keras_on_jax()
    compiled = compiled_network(shape)
    # Limit the batch: a small table would be padded to a whole batch at every step.
    batch = min(batch, 1 << (len(rows.labels) - 1).bit_length())
    random = np.random.default_rng(seed)
    state, number = compiled.initial(random, learning_rate), 0
    while True:
        number += 1
        order = random.permutation(len(rows.labels))
        state, training = compiled.epoch(state, rows, order, batch)
        if not all(np.isfinite(array).all() for array in state.trainable):
            raise FraudError(
                f"--model keras: the weights are no numbers any more after epoch {number}; --set "
                f"learning_rate= to less than {learning_rate:g}",
                Code.TRAINING_FAILED,
            )
        if watched is None:
            yield Epoch(number, training), state
            continue
        scores = compiled.scores(state, watched.matrix, batch)
        precision = float(average_precision_score(watched.labels, scores))
        yield Epoch(number, training, count(watched.labels, scores), precision), state


def keras_model(shape: Shape) -> Any:
    """Return the Keras model with zero arrays."""
    keras = keras_on_jax().keras
    layers = [keras.Input((shape.inputs,))]
    for i in range(shape.layers):
        # The arrays come with the state, so draw none here.
        layers.append(keras.layers.Dense(shape.units, "relu", kernel_initializer="zeros"))
        if i:
            layers.append(keras.layers.Dropout(shape.dropout, seed=0))
    layers.append(keras.layers.Dense(1, "sigmoid", kernel_initializer="zeros"))
    return keras.Sequential(layers)


@dataclass(frozen=True)
class CompiledNetwork:
    """Compiled functions for one shape of network."""

    #: Widths of the layers, the inputs first.
    widths: tuple[int, ...]
    #: Number of dropouts.
    dropouts: int
    #: Adam's arrays before the first step, by their names.
    optimizer: tuple[tuple[str, npt.NDArray[Any]], ...]
    #: Function of state, sums, matrix, labels, weights and mask to state and sums.
    step: Callable[..., Any]
    #: Function of the network's arrays and a matrix to probabilities.
    forward: Callable[..., Any]

    def initial(self, random: np.random.Generator, learning_rate: float) -> State:
        """Return a network with Keras' initial weights: Glorot's uniform kernels, biases of 0."""
        trainable = []
        for inputs, outputs in pairwise(self.widths):
            bound = np.sqrt(6 / (inputs + outputs))
            kernel = random.uniform(-bound, bound, (inputs, outputs))
            trainable += [kernel.astype(np.float32), np.zeros(outputs, np.float32)]
        seeds = random.integers(2**32, size=self.dropouts, dtype=np.uint32)
        other = [np.array([seed, 0], np.uint32) for seed in seeds]
        rate = np.float32(learning_rate)
        adam = [rate if name == "learning_rate" else array for name, array in self.optimizer]
        return State(trainable, other, adam)

    def epoch(
        self, state: State, rows: Examples, order: npt.NDArray[np.int64], batch: int
    ) -> tuple[State, Counted]:
        """Run one epoch over the rows in an order; rows of weight 0 fill the last step."""
        arrays = (state.trainable, state.other, state.optimizer)
        sums = (np.float32(0), np.zeros(4, np.int32))
        for first in range(0, len(order), batch):
            at = order[first : first + batch]
            mask = np.zeros(batch, np.float32)
            mask[: len(at)] = 1
            at = np.resize(at, batch)
            arrays, sums = self.step(
                arrays, sums, rows.matrix[at], rows.labels[at], rows.weights[at] * mask, mask
            )
        fn, fp, tn, tp = (int(n) for n in sums[1])
        return State(*arrays), Counted(float(sums[0]) / len(order), fn=fn, fp=fp, tn=tn, tp=tp)

    def scores(self, state: State, matrix: Floats, batch: int) -> Floats:
        """Probabilities, float32[n], without dropout."""
        parts = []
        for first in range(0, len(matrix), batch):
            rows = matrix[first : first + batch]
            padded = np.zeros((batch, matrix.shape[1]), np.float32)
            padded[: len(rows)] = rows
            scores = np.asarray(self.forward(state.trainable, state.other, padded))
            parts.append(scores[: len(rows)])
        return np.concatenate(parts)


@lru_cache(maxsize=_KEPT)
def compiled_network(shape: Shape) -> CompiledNetwork:
    """Return the functions of a shape, compiled at their first call.

    Raises:
      FraudError: Keras or JAX is not installed, or Keras uses another backend.
    """
    backend = keras_on_jax()
    keras, jax = backend.keras, backend.jax
    jnp = jax.numpy
    model = keras_model(shape)
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)

    def loss_of(
        trainable: Any, other: Any, matrix: Any, labels: Any, weights: Any, mask: Any
    ) -> tuple[Any, Any]:
        scores, other = model.stateless_call(trainable, other, matrix, training=True)
        losses = keras.ops.binary_crossentropy(labels, scores[:, 0]) * weights
        return losses.sum() / mask.sum(), (losses.sum(), scores[:, 0], other)

    def step(
        arrays: Any, sums: Any, matrix: Any, labels: Any, weights: Any, mask: Any
    ) -> tuple[Any, Any]:
        trainable, other, adam = arrays
        (_, (loss, scores, other)), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            trainable, other, matrix, labels, weights, mask
        )
        trainable, adam = optimizer.stateless_apply(adam, gradients, trainable)
        kept, flagged, fraud = mask > 0, scores > 0.5, labels > 0.5
        cells = (~flagged & fraud, flagged & ~fraud, ~flagged & ~fraud, flagged & fraud)
        counts = jnp.stack([(kept & cell).sum(dtype=jnp.int32) for cell in cells])
        return (trainable, other, adam), (sums[0] + loss, sums[1] + counts)

    def forward(trainable: Any, other: Any, matrix: Any) -> Any:
        return model.stateless_call(trainable, other, matrix, training=False)[0][:, 0]

    return CompiledNetwork(
        (shape.inputs, *(shape.units for _ in range(shape.layers)), 1),
        len(model.non_trainable_variables),
        tuple((variable.name, np.asarray(variable)) for variable in optimizer.variables),
        jax.jit(step),
        jax.jit(forward),
    )
