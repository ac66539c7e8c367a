"""Checkpoints of a network after each epoch, in Keras' format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from beam_fraud.errors import Code, FraudError
from beam_fraud.models.network.dense import DenseNetwork
from beam_fraud.models.network.fitting import Shape, State, keras_model, keras_on_jax


def empty_folder(path: str) -> Path:
    """Create a directory, and delete earlier checkpoints: they may be of more epochs.

    Raises:
      FraudError: the directory or file cannot be written.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(_name("*")):
            old.unlink()
    except OSError as error:
        raise FraudError(
            f"--set checkpoints={path}: can't be written ({error.strerror})", Code.OUTPUT_UNWRITABLE
        ) from None
    return folder


def write_checkpoint(folder: Path, epoch: int, shape: Shape, state: State) -> None:
    """Write a network so that `keras.saving.load_model` reads it.

    Raises:
      FraudError: the directory or file cannot be written.
    """
    model = keras_model(shape)
    model.set_weights([np.asarray(array) for array in state.trainable])
    try:
        model.save(folder / _name(f"{epoch:02}"))
    except OSError as error:
        raise FraudError(
            f"{folder}: a checkpoint can't be written ({error.strerror})", Code.OUTPUT_UNWRITABLE
        ) from None


def read_checkpoint(folder: Path, epoch: int) -> DenseNetwork:
    """Return the network after an epoch; it takes the output of the pipeline's earlier steps."""
    model: Any = keras_on_jax().keras.saving.load_model(folder / _name(f"{epoch:02}"))
    arrays = [np.asarray(array, dtype=np.float64) for array in model.get_weights()]
    return DenseNetwork(tuple(arrays[0::2]), tuple(arrays[1::2]))


def _name(epoch: str) -> str:
    return f"epoch_{epoch}.keras"
