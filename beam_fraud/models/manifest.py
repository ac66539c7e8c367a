"""The manifest of a bundle: `manifest.json`."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

import msgspec

from beam_fraud.errors import EXTRAS, Code, UsageError
from beam_fraud.schema.schema import Schema


def packages_of(model: Any) -> tuple[str, ...]:
    """Return the optional packages that a model needs to open and predict.

    These packages define its parts, at any depth. A class that keeps its model in a form of its own
    names the packages itself in the attribute `needs_packages`.

    Args:
      model: an object that pickle can save.

    Returns:
      Top-level modules, each one of `EXTRAS`, in alphabetical order.
    """
    parts = _Parts()
    parts.dump(model)
    return tuple(sorted(parts.modules & EXTRAS.keys()))


def package_version(module: str) -> str | None:
    """Return the version of a top-level module's distribution, None if it is not installed."""
    # Two distributions provide xgboost: with and without CUDA.
    name = packages_distributions().get(module, [module])[0]
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def saved_and_here(saved: Mapping[str, str]) -> tuple[str, str, str]:
    """Describe the versions that saved a model and those installed, for an error.

    Args:
      saved: package to the version that saved it.

    Returns:
      The saving versions and the installed ones, both as in `scikit-learn 1.6.1 and xgboost 3.0.2`,
      and the fix if a major version differs: empty, or the end of the line.
    """
    names = ["scikit-learn", *(name for name in saved if name in EXTRAS)]
    here = {name: package_version(name) or "(not installed)" for name in names}
    by = {name: saved.get(name, "of an unknown version") for name in names}
    other = [name for name in names if _major(by[name]) != _major(here[name])]
    fix = "".join(
        f"; install {name} {_major(by[name])}.* or train again" for name in other if name in saved
    )
    return _listed(by), _listed(here), fix


def _major(number: str) -> str:
    return number.split(".")[0]


def _listed(versions: Mapping[str, str]) -> str:
    return " and ".join(f"{name} {number}" for name, number in versions.items())


class _Nowhere:
    """A file that discards its input."""

    def write(self, data: bytes | pickle.PickleBuffer) -> int:
        return memoryview(data).nbytes


class _Parts(pickle.Pickler):
    """Collect the modules of the pickled object's classes and functions."""

    def __init__(self) -> None:
        super().__init__(_Nowhere(), protocol=pickle.HIGHEST_PROTOCOL)
        self.modules: set[str] = set()

    def reducer_override(self, part: Any) -> Any:
        """Record a part's module; leave its pickling to pickle."""
        self.modules.add(str(getattr(part, "__module__", "")).split(".")[0])
        self.modules.update(getattr(part, "needs_packages", ()))
        return NotImplemented


#: Distributions whose versions a bundle records.
NOTED_VERSIONS = ("beam-fraud", "scikit-learn", "numpy", "joblib")


@dataclass(frozen=True)
class Thresholds:
    """Scores from which a transaction is reviewed or declined."""

    #: A score of at least this is flagged for review.
    review: float
    #: A score of at least this is declined; None declines nothing.
    decline: float | None = None

    def __post_init__(self) -> None:
        """Check the thresholds.

        Raises:
          ValueError: a threshold is not in 0..1, or decline is below review.
        """
        for name in ("review", "decline"):
            score = getattr(self, name)
            if score is not None and not 0 <= score <= 1:
                raise ValueError(f"{name} {score:g} is not from 0 to 1")
        if self.decline is not None and self.decline < self.review:
            raise ValueError(f"decline {self.decline:g} is below review {self.review:g}")


@dataclass(frozen=True)
class Manifest:
    """The description of a model.

    Example:
      >>> manifest = Manifest(
      ...     name="demo", kind="forest", created="2026-01-01T00:00:00+00:00",
      ...     features=("amount",), schema={}, thresholds=Thresholds(0.5),
      ... )
      >>> decode_manifest(encode_manifest(manifest)) == manifest
      True
    """

    #: Name of the model, the first half of its id.
    name: str
    #: Kind of the model (`forest`), or `imported`.
    kind: str
    #: Creation time of the bundle, ISO 8601 in UTC.
    created: str
    #: Names of the features in the model's order.
    features: tuple[str, ...]
    #: The schema of the transactions, in the form of `Schema.to_dict`.
    schema: dict[str, Any]
    #: The thresholds.
    thresholds: Thresholds
    #: Definitions of the velocity features among `features`.
    velocity: tuple[dict[str, Any], ...] = ()
    #: Categorical feature to its known values, in code order.
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: Chosen settings of the kind by name; empty if unknown.
    settings: dict[str, Any] = field(default_factory=dict)
    #: Package to the version that saved the model; optional ones only if it needs them.
    versions: dict[str, str] = field(default_factory=dict)
    #: Figures on rows that the model was not fitted on, and a description of the rows.
    metrics: dict[str, Any] = field(default_factory=dict)
    #: First and last event time of the fitted rows, ISO 8601; None if unknown.
    trained_on: tuple[str, str] | None = None
    #: Cost of a prediction on one thread, in microseconds per row; None if not measured.
    microseconds_per_row: float | None = None
    #: The bundle's other files to their SHA-256, in hexadecimal.
    files: dict[str, str] = field(default_factory=dict)


def schema_fields(schema: Schema) -> dict[str, Any]:
    """Return the schema fields of a manifest: `schema` and `velocity`."""
    values = schema.to_dict()
    return {"velocity": tuple(values.pop("velocity")), "schema": values}


def encode_manifest(manifest: Manifest) -> bytes:
    """Encode the manifest as indented JSON; equal manifests give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=2)


def decode_manifest(data: bytes) -> Manifest:
    """Decode a manifest; the inverse of `encode_manifest`.

    Raises:
      msgspec.DecodeError: the data are not JSON, or a field is absent or of another type.
    """
    return msgspec.json.decode(data, type=Manifest)


def model_name(chosen: str | None, out: str) -> str:
    """Return the name of a new model: `chosen`, or the last part of its bundle's path.

    Raises:
      UsageError: the name has unprintable characters.

    Example:
      >>> model_name(None, "models/forest")
      'forest'
    """
    name = chosen or Path(out).name or Path(out).absolute().name
    if not name.isprintable() or not name.strip():
        raise UsageError(
            f"--name {name!r}: must be of characters that can be printed", Code.OPTION_VALUE
        )
    return name


def model_id(name: str, data: bytes) -> str:
    """Return `name@` and the first 12 hex digits of the SHA-256 of a manifest's bytes."""
    return f"{name}@{hashlib.sha256(data).hexdigest()[:12]}"


def installed_versions(packages: Iterable[str] = ()) -> dict[str, str]:
    """Return the installed versions that a new bundle depends on.

    Args:
      packages: packages of its model beside `NOTED_VERSIONS`.
    """
    needed = {name: package_version(name) for name in packages}
    noted = {name: version(name) for name in NOTED_VERSIONS}
    return noted | {name: number for name, number in needed.items() if number is not None}
