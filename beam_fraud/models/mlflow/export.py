"""Export a bundle as an MLflow model: into a directory, or to a tracking server and its registry.

The export holds the whole bundle, so that importing it gives the same bundle in every bit.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from beam_fraud.errors import extra_module
from beam_fraud.models.bundle import MANIFEST_FILE, Bundle, read_reference
from beam_fraud.models.manifest import package_version
from beam_fraud.models.mlflow.directory import LOADER, MANIFEST_DIGEST, MLMODEL_FILE
from beam_fraud.models.mlflow.library import masked, mlflow_library
from beam_fraud.models.storage import read_bytes, write_directory
from beam_fraud.storage.urls import Place

#: Name of the model in its run.
_ARTIFACT = "model"


@dataclass(frozen=True)
class LoggedModel:
    """A model in a tracking store."""

    #: The run that has its parameters, figures and tags.
    run_id: str
    #: URI by which MLflow loads it.
    uri: str
    #: Its version in the model registry; None if it was not registered.
    version: str | None


def export_directory(bundle: Bundle, place: Place) -> int:
    """Write a bundle as an MLflow model to a directory.

    Args:
      bundle: a checked bundle.
      place: an earlier export there is replaced atomically.

    Returns:
      The size of the files in bytes.

    Raises:
      FraudError: the extra is missing, a file of the bundle is damaged, or the directory holds
        other files or cannot be written.
    """
    with (
        mlflow_library("--mlflow") as mlflow,
        _described(bundle) as described,
        tempfile.TemporaryDirectory() as temporary,
    ):
        path = Path(temporary) / "model"
        mlflow.pyfunc.save_model(path=str(path), **described)
        files = {
            file.relative_to(path).as_posix(): file.read_bytes()
            for file in sorted(path.rglob("*"))
            if file.is_file()
        }
    write_directory(place, files, last=MLMODEL_FILE)
    return sum(map(len, files.values()))


def export_to_store(
    bundle: Bundle,
    uri: str,
    name: str | None = None,
    alias: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> LoggedModel:
    """Log a bundle as an MLflow model in a run of its own, and register it.

    Args:
      bundle: a checked bundle.
      uri: the tracking server or store.
      name: name of the registered model that gets a version; None to register nothing.
      alias: alias of that version.
      tags: further tags of the run and the version.

    Raises:
      FraudError: the extra is missing, a file of the bundle is damaged, or MLflow fails.
    """
    with mlflow_library(f"--mlflow {uri}", uri) as mlflow, _described(bundle) as described:
        tags = {**_identity(bundle), **(tags or {})}
        with mlflow.start_run(run_name=bundle.model_id, tags=tags) as run:
            mlflow.log_params(_parameters(bundle))
            info = mlflow.pyfunc.log_model(
                name=_ARTIFACT, registered_model_name=name, tags=tags, **described
            )
            mlflow.log_metrics(_metrics(bundle), model_id=info.model_id)
        version = info.registered_model_version
        if name is not None:
            client = mlflow.MlflowClient()
            for key, value in tags.items():
                client.set_model_version_tag(name, str(version), key, value)
            if alias is not None:
                client.set_registered_model_alias(name, alias, str(version))
        return LoggedModel(
            run.info.run_id,
            masked(info.model_uri),
            None if name is None else str(version),
        )


@contextmanager
def _described(bundle: Bundle) -> Iterator[dict[str, Any]]:
    """Give the arguments of MLflow's `save_model`; its copy of the bundle is temporary."""
    with tempfile.TemporaryDirectory() as temporary:
        copied = bundle.save(Path(temporary) / "bundle")
        identity = _identity(copied)
        yield {
            "loader_module": LOADER,
            "data_path": copied.path,
            "model_config": identity,
            "metadata": identity,
            "signature": _signature(bundle),
            "input_example": _example(bundle),
            "pip_requirements": _requirements(bundle),
        }


def _signature(bundle: Bundle) -> Any:
    models = extra_module("mlflow.models", "--mlflow")
    types = extra_module("mlflow.types", "--mlflow")
    categorical, names = bundle.features.categorical, bundle.features.names
    columns = [
        types.ColSpec("string" if place in categorical else "double", name)
        for place, name in enumerate(names)
    ]
    scores = types.TensorSpec(np.dtype(np.float64), (-1,))
    return models.ModelSignature(types.Schema(columns), types.Schema([scores]))


def _example(bundle: Bundle) -> pd.DataFrame:
    """Return one row of usual values: medians, and first categories."""
    known = {one.feature: one for one in read_reference(bundle).distributions}
    row: dict[str, list[float] | list[str]] = {}
    for place, name in enumerate(bundle.features.names):
        if place in bundle.features.categorical:
            row[name] = [next(iter(bundle.manifest.categories.get(name, ())), "")]
        else:
            edges = known[name].edges if name in known else ()
            row[name] = [edges[len(edges) // 2] if edges else 1.0]
    return pd.DataFrame(row)


def _requirements(bundle: Bundle) -> list[str]:
    """Return the exact versions of this package and of those that saved the model."""
    distributions = packages_distributions()
    versions = {
        # Two distributions provide xgboost.
        distributions.get(package, [package])[0]: version
        for package, version in bundle.manifest.versions.items()
    }
    # Versions before this one may not know the loader.
    versions["beam-fraud"] = package_version("beam_fraud") or versions["beam-fraud"]
    return [f"{name}=={version}" for name, version in versions.items()]


def _identity(bundle: Bundle) -> dict[str, str]:
    """Return what tells which bundle it is."""
    assert bundle.place is not None
    data = read_bytes(bundle.place, MANIFEST_FILE)
    return {"model_id": bundle.model_id, MANIFEST_DIGEST: hashlib.sha256(data).hexdigest()}


def _parameters(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    thresholds = {"review": manifest.thresholds.review, "decline": manifest.thresholds.decline}
    return {"kind": manifest.kind, **manifest.settings, **thresholds}


def _metrics(bundle: Bundle) -> dict[str, float]:
    manifest = bundle.manifest
    figures = {**manifest.metrics, "microseconds_per_row": manifest.microseconds_per_row}
    return {
        name: float(value)
        for name, value in figures.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
