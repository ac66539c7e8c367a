"""What a bundle says about its model: the contents of `manifest.json`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from beam_fraud.errors import UsageError
from beam_fraud.models.packages import package_version
from beam_fraud.schema import Schema

#: Distributions whose versions a bundle notes.
NOTED_VERSIONS = ("beam-fraud", "scikit-learn", "numpy", "joblib")


@dataclass(frozen=True)
class Thresholds:
    """Scores from which a transaction is no longer approved."""

    #: A score of at least this is flagged for review.
    review: float
    #: A score of at least this is declined; None declines nothing.
    decline: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is no score.

        Raises:
          ValueError: a threshold is not from 0 to 1, or fewer are reviewed than declined.
        """
        for name in ("review", "decline"):
            score = getattr(self, name)
            if score is not None and not 0 <= score <= 1:
                raise ValueError(f"{name} {score:g} is not from 0 to 1")
        if self.decline is not None and self.decline < self.review:
            raise ValueError(f"decline {self.decline:g} is below review {self.review:g}")


@dataclass(frozen=True)
class Manifest:
    """Everything about a model but the model itself.

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
    #: What was trained (`forest`), or `imported`.
    kind: str
    #: When the bundle was made, ISO 8601 in UTC.
    created: str
    #: Names of the features in the order that the model takes them.
    features: tuple[str, ...]
    #: The schema of the transactions, as `Schema.to_dict` gives it.
    schema: dict[str, Any]
    #: The scores that decide.
    thresholds: Thresholds
    #: Definitions of the velocity features among `features`.
    velocity: tuple[dict[str, Any], ...] = ()
    #: Categorical feature to its known values, in code order.
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: Settings of the kind by name, as they were chosen; empty if nobody knows.
    settings: dict[str, Any] = field(default_factory=dict)
    #: Package to the version that saved the model; the optional ones only if it needs them.
    versions: dict[str, str] = field(default_factory=dict)
    #: Figures on rows that the model was not fitted on, and what rows those are.
    metrics: dict[str, Any] = field(default_factory=dict)
    #: First and last event time that the model was fitted on, ISO 8601; None if nobody knows.
    trained_on: tuple[str, str] | None = None
    #: What a prediction costs on one thread, in microseconds a row; None if it wasn't timed.
    microseconds_per_row: float | None = None
    #: The bundle's other files to the SHA-256 of each, in hexadecimal.
    files: dict[str, str] = field(default_factory=dict)


def schema_fields(schema: Schema) -> dict[str, Any]:
    """The fields of a manifest that describe a schema: `schema` and, apart from it, `velocity`."""
    values = schema.to_dict()
    return {"velocity": tuple(values.pop("velocity")), "schema": values}


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as indented JSON, the same bytes for equal manifests."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=2)


def decode_manifest(data: bytes) -> Manifest:
    """The inverse of `encode_manifest`.

    Raises:
      msgspec.DecodeError: not JSON, or a field is absent or of another type.
    """
    return msgspec.json.decode(data, type=Manifest)


def model_name(given: str | None, out: str) -> str:
    """The name of a new model: the one given, or else the last part of where its bundle goes.

    Raises:
      UsageError: a terminal or a log could not show it as it is.

    Example:
      >>> model_name(None, "models/forest")
      'forest'
    """
    name = given or Path(out).name or Path(out).absolute().name
    if not name.isprintable() or not name.strip():
        raise UsageError(f"--name {name!r}: must be of characters that can be printed")
    return name


def model_id(name: str, data: bytes) -> str:
    """`name@` and the first 12 hexadecimal digits of the SHA-256 of a manifest's bytes."""
    return f"{name}@{hashlib.sha256(data).hexdigest()[:12]}"


def installed_versions(packages: Iterable[str] = ()) -> dict[str, str]:
    """The versions that a bundle made here depends on.

    Args:
      packages: what its model needs beside `NOTED_VERSIONS`.
    """
    needed = {name: package_version(name) for name in packages}
    noted = {name: version(name) for name in NOTED_VERSIONS}
    return noted | {name: number for name, number in needed.items() if number is not None}
