"""A Keras network, fitted on JAX by `Model.fit` with Keras' own callbacks.

The model of a shape is compiled once and set up again for each fit: a new one would compile for 2.4
seconds of a processor, where a fit of 400 rows takes 0.05. So `Model.fit` takes what a loop of the
same steps took: 1.2 seconds for 1.1 (2,000 rows, 30 epochs), 2.9 for 2.9 (20,000 rows, 10 epochs),
12.6 for 12.9 (the 227,845 rows of ULB, 4 epochs).
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.metrics import average_precision_score

from beam_fraud.errors import Code, FraudError, extra_module
from beam_fraud.models.network.history import Counted, Epoch, count

Doubles = npt.NDArray[np.float64]
#: Rows per pass through all layers: intermediate results stay in the cache.
_TOGETHER = 512
_log = logging.getLogger(__name__)
#: Environment variable from which Keras takes its backend when it is first imported.
VARIABLE = "KERAS_BACKEND"
_WHAT = "--model keras"
Floats = npt.NDArray[np.float32]
#: Number of compiled networks to keep.
_CACHED = 8
#: Minimum of seconds between progress lines: short fits print none.
_SECONDS_BETWEEN_LINES = 5.0


@dataclass(frozen=True)
class DenseNetwork:
    """Dense layers with ReLU between them and a sigmoid after the last.

    float64, though the weights were fitted as float32: so the rows beside a row change its score by
    no more than 1e-15, by the order in which BLAS adds.
    """

    #: float64[inputs, outputs] of each layer; the last has one output.
    kernels: tuple[Doubles, ...]
    #: float64[outputs] of each layer.
    biases: tuple[Doubles, ...]

    def scores(self, matrix: Doubles) -> Doubles:
        """Return the probabilities of fraud, float64[n], of float64[n, inputs] without NaN."""
        logits = np.empty(len(matrix))
        for first in range(0, len(matrix), _TOGETHER):
            rows = matrix[first : first + _TOGETHER]
            logits[first : first + len(rows)] = self._logits(rows)
        return np.asarray(expit(logits))

    def _logits(self, rows: Doubles) -> Doubles:
        last = len(self.kernels) - 1
        for i, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            rows = rows @ kernel
            rows += bias
            if i < last:
                np.maximum(rows, 0.0, out=rows)
        return rows[:, 0]


def keras_on_jax() -> ModuleType:
    """Import Keras with JAX below it, and restore the environment.

    Raises:
      FraudError: one of them is not installed, or this process has Keras on another backend.
    """
    backend = os.environ.get(VARIABLE)
    if "keras" not in sys.modules and backend not in (None, "", "jax"):
        raise FraudError(
            f"{_WHAT}: runs on jax, and {VARIABLE} is {backend}; unset it", Code.TRAINING_FAILED
        )
    extra_module("jax", _WHAT)
    os.environ[VARIABLE] = "jax"
    try:
        keras = extra_module("keras", _WHAT)
    finally:
        if backend is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = backend
    if keras.backend.backend() != "jax":
        raise FraudError(
            f"{_WHAT}: runs on jax, and this process has imported keras with "
            f"{keras.backend.backend()}; train in another process",
            Code.TRAINING_FAILED,
        )
    return keras


@dataclass(frozen=True)
class Shape:
    """The shape of a network, by which it is compiled."""

    #: Columns that go in.
    inputs: int
    #: Outputs of each hidden layer.
    units: int
    #: Hidden layers; each but the first is followed by dropout.
    layers: int
    #: Share of the outputs that dropout drops.
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
class Steps:
    """The steps of a fit."""

    #: Rows of a step.
    batch: int
    #: Learning rate of Adam.
    learning_rate: float
    #: Of first weights, order of rows and dropout.
    seed: int
    #: Passes over the rows, at most.
    epochs: int
    #: Epochs without a better average precision before the fit stops and returns to the best
    #: epoch; None keeps the last one.
    patience: int | None = None
    #: Directory for `epoch_<n>.keras` of each epoch; None for none.
    checkpoints: Path | None = None


@dataclass(frozen=True)
class Fit:
    """A fitted network."""

    #: After the kept epoch.
    network: DenseNetwork
    #: Number of that epoch, from 1.
    epoch: int
    #: All epochs, those after the kept one too.
    history: tuple[Epoch, ...]


def fit_network(shape: Shape, rows: Examples, steps: Steps, watched: Examples | None = None) -> Fit:
    """Fit a network; the same for the same arguments, versions and processors.

    Args:
      shape: of the network.
      rows: to fit on.
      steps: of the fit.
      watched: rows to measure after each epoch.

    Raises:
      FraudError: Keras or JAX is not installed, Keras runs on another backend, the weights diverge,
        or a checkpoint can't be written.
    """
    keras = keras_on_jax()
    # A small table would be padded to a whole batch at every step.
    batch = min(steps.batch, 1 << (len(rows.labels) - 1).bit_length())
    random = np.random.default_rng(steps.seed)
    with _FITTING:
        try:
            model = _compiled(shape)
            _initialize(model, random, steps.learning_rate)
            epochs = _Epochs(model, watched, batch, steps.learning_rate)
            callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=epochs.after)]
            stopping = None
            if steps.patience is not None and watched is not None:
                stopping = keras.callbacks.EarlyStopping(
                    monitor=_MONITORED,
                    mode="max",
                    patience=steps.patience,
                    restore_best_weights=True,
                )
                callbacks.append(stopping)
            if steps.checkpoints is not None:
                path = str(steps.checkpoints / _checkpoint("{epoch:02d}"))
                callbacks.append(keras.callbacks.ModelCheckpoint(path))
            model.fit(
                _batches(rows, batch, random),
                steps_per_epoch=-(-len(rows.labels) // batch),
                epochs=steps.epochs,
                callbacks=callbacks,
                shuffle=False,
                verbose=0,
            )
        except BaseException as error:
            # An interrupted step leaves arrays that JAX has deleted.
            _compiled.cache_clear()
            if isinstance(error, OSError) and steps.checkpoints is not None:
                raise FraudError(
                    f"{steps.checkpoints}: a checkpoint can't be written "
                    f"({error.strerror or error})",
                    Code.OUTPUT_UNWRITABLE,
                ) from None
            raise
        history = tuple(epochs.history)
        best_epoch = len(history) if stopping is None else stopping.best_epoch + 1
        return Fit(_network(model), best_epoch, history)


#: `_compiled` shares a model between fits.
_FITTING = threading.Lock()
_MONITORED = "average_precision"


@lru_cache(maxsize=_CACHED)
def _compiled(shape: Shape) -> Any:
    """The model of a shape, shared by all fits of a process: compiling takes seconds."""
    keras = keras_on_jax()
    layers = [keras.Input((shape.inputs,))]
    for i in range(shape.layers):
        # `_initialize` draws all arrays.
        layers.append(keras.layers.Dense(shape.units, "relu", kernel_initializer="zeros"))
        if i:
            layers.append(keras.layers.Dropout(shape.dropout, seed=0))
    layers.append(keras.layers.Dense(1, "sigmoid", kernel_initializer="zeros"))
    model = keras.Sequential(layers)
    metrics = keras.metrics
    model.compile(
        keras.optimizers.Adam(),
        "binary_crossentropy",
        metrics=[
            metrics.FalseNegatives(name="fn"),
            metrics.FalsePositives(name="fp"),
            metrics.TrueNegatives(name="tn"),
            metrics.TruePositives(name="tp"),
        ],
    )
    model.optimizer.build(model.trainable_variables)
    return model


def _initialize(model: Any, random: np.random.Generator, learning_rate: float) -> None:
    """Set a model up as Keras does: Glorot's uniform kernels, all else 0."""
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            bound = np.sqrt(6 / sum(layer.kernel.shape))
            layer.kernel.assign(random.uniform(-bound, bound, layer.kernel.shape))
            layer.bias.assign(np.zeros(layer.bias.shape))
    for layer in model.layers:
        if hasattr(layer, "seed_generator"):
            layer.seed_generator.state.assign(
                np.array([random.integers(2**32, dtype=np.uint32), 0], np.uint32)
            )
    for variable in model.optimizer.variables:
        variable.assign(np.zeros(variable.shape))
    model.optimizer.learning_rate = learning_rate


def _batches(
    rows: Examples, batch: int, random: np.random.Generator
) -> Iterator[tuple[Floats, Floats, Floats]]:
    """Yield pass after pass: `Model.fit` would shuffle by the numbers that all of NumPy shares."""
    while True:
        order = random.permutation(len(rows.labels))
        for first in range(0, len(order), batch):
            at = order[first : first + batch]
            yield rows.matrix[at], rows.labels[at, None], rows.weights[at]


class _Epochs:
    """Measures each epoch."""

    def __init__(
        self, model: Any, watched: Examples | None, batch: int, learning_rate: float
    ) -> None:
        self.history: list[Epoch] = []
        self._model, self._watched, self._learning_rate = model, watched, learning_rate
        self._batch, self._logged_at = batch, time.monotonic()

    def after(self, epoch: int, logs: dict[str, float]) -> None:
        """Add an epoch, from 0, to the history, and its average precision to Keras' logs.

        Raises:
          FraudError: the weights diverge.
        """
        number = epoch + 1
        if not all(np.isfinite(array).all() for array in self._model.get_weights()):
            raise FraudError(
                f"{_WHAT}: the weights are not finite after epoch {number}; --set "
                f"learning_rate= to less than {self._learning_rate:g}",
                Code.TRAINING_FAILED,
            )
        cells = {name: int(logs[name]) for name in ("fn", "fp", "tn", "tp")}
        this = Epoch(number, Counted(float(logs["loss"]), **cells))
        if self._watched is not None:
            labels = self._watched.labels
            scores = _scores(self._model, self._watched.matrix, self._batch)
            precision = float(average_precision_score(labels, scores))
            logs[_MONITORED] = precision
            this = Epoch(number, this.training, count(labels, scores), precision)
        self.history.append(this)
        if time.monotonic() - self._logged_at >= _SECONDS_BETWEEN_LINES:
            _log.info("%s", this)
            self._logged_at = time.monotonic()


def _scores(model: Any, matrix: Floats, batch: int) -> Floats:
    """Probabilities, float32[n]; whole batches, for each number of rows compiles again."""
    padded = np.zeros((-(-len(matrix) // batch) * batch, matrix.shape[1]), np.float32)
    padded[: len(matrix)] = matrix
    return np.asarray(model.predict(padded, batch_size=batch, verbose=0)[: len(matrix), 0])


def _network(model: Any) -> DenseNetwork:
    arrays = [np.asarray(array, dtype=np.float64) for array in model.get_weights()]
    return DenseNetwork(tuple(arrays[0::2]), tuple(arrays[1::2]))


def empty_folder(path: str) -> Path:
    """Create a directory, and delete checkpoints of an earlier, maybe longer, fit.

    Raises:
      FraudError: it can't be written.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(_checkpoint("*")):
            old.unlink()
    except OSError as error:
        raise FraudError(
            f"--set checkpoints={path}: can't be written ({error.strerror})", Code.OUTPUT_UNWRITABLE
        ) from None
    return folder


def read_checkpoint(folder: Path, epoch: int) -> DenseNetwork:
    """Read the network after an epoch; it takes the output of the pipeline's earlier steps."""
    return _network(keras_on_jax().saving.load_model(folder / _checkpoint(f"{epoch:02}")))


def _checkpoint(epoch: str) -> str:
    return f"epoch_{epoch}.keras"
