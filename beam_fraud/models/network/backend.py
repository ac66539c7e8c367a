"""Keras on JAX, imported when a network is fitted and not before."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from types import ModuleType

from beam_fraud.errors import FraudError
from beam_fraud.extras import extra_module

#: What Keras takes its backend from when it is first imported.
VARIABLE = "KERAS_BACKEND"
_WHAT = "--model keras"


@dataclass(frozen=True)
class Backend:
    """The modules that fit."""

    #: Keras 3.
    keras: ModuleType
    #: What it runs on.
    jax: ModuleType


def keras_on_jax() -> Backend:
    """Import Keras with JAX below it, and leave the environment as it was.

    Raises:
      FraudError: one of them is not installed, or this process has Keras on another backend.
    """
    wanted = os.environ.get(VARIABLE)
    if "keras" not in sys.modules and wanted not in (None, "", "jax"):
        raise FraudError(f"{_WHAT}: runs on jax, and {VARIABLE} is {wanted}; unset it")
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
            f"{keras.backend.backend()}; train in another process"
        )
    return Backend(keras, jax)
