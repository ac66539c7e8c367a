"""An MLflow model: a directory with the file `MLmodel`, which names the files of its flavours.

Reading one needs no package of MLflow.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from beam_fraud.errors import Code, FraudError
from beam_fraud.models.bundle import MANIFEST_FILE, Bundle, open_bundle
from beam_fraud.models.model_files.saved import SavedModel, read_model_file
from beam_fraud.wording import first_line

MLMODEL_FILE = "MLmodel"
#: The module by which MLflow loads an exported bundle; exports of all versions name it.
LOADER = "beam_fraud.models.mlflow.pyfunc"
#: The flavour of every model that MLflow itself can load.
PYFUNC = "python_function"
#: Entry of a pyfunc's `config` with the SHA-256 of an exported bundle's manifest.
MANIFEST_DIGEST = "manifest_sha256"
#: Flavour to the entry that names its file, and the file without it. The first one counts: a
#: library's own file holds more than a pickle of its object.
_FILES = {
    "catboost": ("data", "model.cb"),
    "lightgbm": ("data", "model.lgb"),
    "xgboost": ("data", "model.xgb"),
    "sklearn": ("pickled_model", "model.pkl"),
    "onnx": ("data", "model.onnx"),
}


@dataclass(frozen=True)
class MlflowModel:
    """The contents of the `MLmodel` of a directory; no model is opened yet."""

    #: The directory.
    directory: Path
    #: The directory or URI as the user names it, for messages.
    shown: str
    #: Flavour to its entries.
    flavours: Mapping[str, Mapping[str, Any]]
    #: Names of the signature's columns, in its order; () without named columns.
    columns: tuple[str, ...]

    @property
    def holds_bundle(self) -> bool:
        """Return whether it is an export of a bundle."""
        return self.flavours.get(PYFUNC, {}).get("loader_module") == LOADER

    def bundle(self) -> Bundle:
        """Return the exported bundle, compared with the digest of the export.

        Raises:
          FraudError: it is damaged, or not the one that was exported.
        """
        entries = self.flavours[PYFUNC]
        config = entries.get("config")
        return exported_bundle(
            self._file(entries.get("data", ""), PYFUNC), config if isinstance(config, dict) else {}
        )

    def saved(self) -> SavedModel:
        """Return the model file, not opened yet, with the columns of the signature.

        Raises:
          FraudError: no flavour has a file that can be imported, or it is missing.
        """
        for flavour, (entry, usual) in _FILES.items():
            if flavour in self.flavours:
                file = self._file(self.flavours[flavour].get(entry, usual), flavour)
                data = read_model_file(str(file)).data
                return SavedModel(self.shown, data, self.columns)
        raise FraudError(
            f"{self.shown}: has the flavours {', '.join(self.flavours) or '(none)'}; what can be "
            f"imported is one of {', '.join(_FILES)}; log the model itself by one of them",
            Code.MODEL_UNSUITED,
        )

    def _file(self, name: Any, flavour: str) -> Path:
        path = PurePosixPath(str(name))
        if not path.parts or path.is_absolute() or ".." in path.parts:
            raise FraudError(
                f"{self.shown}: {MLMODEL_FILE}: {flavour} names {str(name)!r}, which is not within "
                "the model's directory",
                Code.INPUT_FORMAT,
            )
        if not (self.directory / path).exists():
            raise FraudError(
                f"{self.shown}: {path}, the model of {flavour}, is missing; copy or log it again",
                Code.INPUT_DAMAGED,
            )
        return self.directory / path


def exported_bundle(directory: Path, config: Mapping[str, Any]) -> Bundle:
    """Open the bundle of an export without opening its model.

    Args:
      directory: of the bundle.
      config: the `config` of the export's pyfunc flavour.

    Raises:
      FraudError: it is damaged, or not the one that was exported.
    """
    bundle = open_bundle(directory)
    data = (directory / MANIFEST_FILE).read_bytes()
    if hashlib.sha256(data).hexdigest() != config.get(MANIFEST_DIGEST):
        raise FraudError(
            f"{directory}: {MANIFEST_FILE} is not the one that {MLMODEL_FILE} describes (changed "
            "or damaged); export the bundle again",
            Code.BUNDLE_DAMAGED,
        )
    return bundle


def read_mlflow_model(directory: Path, shown: str) -> MlflowModel:
    """Read the `MLmodel` of a directory.

    Args:
      directory: the directory.
      shown: how the user names it.

    Raises:
      FraudError: the directory has none, or it cannot be read.
    """
    try:
        text = (directory / MLMODEL_FILE).read_text("utf-8")
    except FileNotFoundError:
        bundle = (directory / MANIFEST_FILE).is_file()
        raise FraudError(
            f"{shown}: is a model bundle already"
            if bundle
            else f"{shown}: is a directory without {MLMODEL_FILE}; give a model file, or the "
            f"directory of an MLflow model",
            Code.INPUT_FORMAT,
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise FraudError(
            f"{shown}: {MLMODEL_FILE} can't be read ({first_line(error)})", Code.INPUT_UNREADABLE
        ) from None
    try:
        described = yaml.safe_load(text)
        flavours = {str(name): dict(entries) for name, entries in described["flavors"].items()}
        columns = _columns((described.get("signature") or {}).get("inputs"))
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise FraudError(
            f"{shown}: {MLMODEL_FILE} is not one of MLflow; copy or log the model again",
            Code.INPUT_FORMAT,
        ) from None
    return MlflowModel(directory, shown, flavours, columns)


def _columns(inputs: str | None) -> tuple[str, ...]:
    """Return the names of the columns of a signature's inputs, written as JSON."""
    described = json.loads(inputs) if inputs else []
    # A tensor has a name, too, but no columns.
    named = all("name" in one and one.get("type") != "tensor" for one in described)
    return tuple(str(one["name"]) for one in described) if named else ()
