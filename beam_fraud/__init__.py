"""Score card transactions for fraud with one Apache Beam pipeline, in batch and in stream.

This is the public interface. Each name is imported at its first use, so that `import beam_fraud`
loads nothing else.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from beam_fraud.models.old_paths import register as _register_old_paths

if TYPE_CHECKING:
    from beam_fraud.errors import FraudError, UsageError
    from beam_fraud.models.bundle import Bundle, load_bundle
    from beam_fraud.pipeline.frames.learning import Measurement, evaluate, explore, train
    from beam_fraud.pipeline.frames.rows import Checked
    from beam_fraud.pipeline.frames.scoring import features, score
    from beam_fraud.schema.schema import FeatureColumn, Schema
    from beam_fraud.schema.toml import load_schema
    from beam_fraud.schema.velocity import Velocity
    from beam_fraud.transforms.features import ComputeFeatures
    from beam_fraud.transforms.parse import ParseTransactions
    from beam_fraud.transforms.score import Score
    from beam_fraud.transforms.send_alerts import SendAlerts
    from beam_fraud.transforms.write_flagged import WriteFlagged

__version__ = "0.1.0"

# Opening a pickle that names a module of this package imports the package first.
_register_old_paths()

__all__ = [
    "Bundle",
    "Checked",
    "ComputeFeatures",
    "FeatureColumn",
    "FraudError",
    "Measurement",
    "ParseTransactions",
    "Schema",
    "Score",
    "SendAlerts",
    "UsageError",
    "Velocity",
    "WriteFlagged",
    "__version__",
    "evaluate",
    "explore",
    "features",
    "load_bundle",
    "load_schema",
    "score",
    "train",
]

#: Public name to the module that holds it.
_MODULES = {
    "Bundle": "models.bundle",
    "Checked": "pipeline.frames.rows",
    "ComputeFeatures": "transforms.features",
    "FeatureColumn": "schema.schema",
    "FraudError": "errors",
    "Measurement": "pipeline.frames.learning",
    "ParseTransactions": "transforms.parse",
    "Schema": "schema.schema",
    "Score": "transforms.score",
    "SendAlerts": "transforms.send_alerts",
    "UsageError": "errors",
    "Velocity": "schema.velocity",
    "WriteFlagged": "transforms.write_flagged",
    "evaluate": "pipeline.frames.learning",
    "explore": "pipeline.frames.learning",
    "load_bundle": "models.bundle",
    "load_schema": "schema.toml",
    "score": "pipeline.frames.scoring",
    "train": "pipeline.frames.learning",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use."""
    if name == "features":
        return import_module(f"{__name__}.features")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


class _Features(ModuleType):
    """The subpackage `features`; a call invokes the public function of that name."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return import_module("beam_fraud.pipeline.frames.scoring").features(*args, **options)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # The import system binds a subpackage as an attribute.
        if name == "features":
            value.__class__ = _Features
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
