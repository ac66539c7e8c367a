"""Packages that only some of the work needs."""

from __future__ import annotations

from importlib import import_module
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
    return f"needs {name}; pip install 'beam-fraud[{EXTRAS[name]}]'"
