"""Packages that only some of the work needs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from beam_fraud.errors import FraudError

#: Top-level module to the extra that brings it along.
EXTRAS = {
    "imblearn": "resampling",
    "jax": "keras",
    "keras": "keras",
    "lightgbm": "boosting",
    "onnx": "onnx",
    "onnxmltools": "onnx",
    "onnxruntime": "onnx",
    "optuna": "tuning",
    "skl2onnx": "onnx",
    "xgboost": "boosting",
}


def install(extra: str) -> str:
    """The command that installs an extra into the environment of the Python that runs."""
    return f"{shlex.quote(sys.executable or 'python')} -m pip install 'beam-fraud[{extra}]'"


def need_extras(modules: Iterable[str], what: str) -> None:
    """Check that modules are installed without importing them, before anything is read.

    Args:
      modules: top-level ones, each one of `EXTRAS`.
      what: what needs them, for the message, as in `--model xgboost`.

    Raises:
      FraudError: one is not installed; the extra is named.
    """
    for module in modules:
        if not is_installed(module):
            raise FraudError(f"{what}: {_needs(module)}")


def is_installed(module: str) -> bool:
    """Whether a module, by its dotted name, can be found."""
    try:
        return find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):
        return False


def extra_module(module: str, what: str) -> ModuleType:
    """Import a module that is not installed with the package itself.

    Args:
      module: dotted name, its first part one of `EXTRAS`.
      what: what needs it, for the message, as in `--model xgboost`.

    Raises:
      FraudError: it is not installed; the extra is named.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        raise FraudError(f"{what}: {missing}") from None


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """What to install for a module that is not there; None if no extra brings it."""
    name = (error.name or "").split(".")[0]
    if name not in EXTRAS:
        return None
    return _needs(name)


def _needs(module: str) -> str:
    return f"needs {module}; {install(EXTRAS[module])}"
