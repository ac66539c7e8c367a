"""Bundles of models that score by the amount, fail or are slow, for tests of `--shadow`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from beam_fraud.models.bundle import write_bundle
from beam_fraud.models.manifest import Manifest, Thresholds
from beam_fraud.models.reference import Reference
from beam_fraud.schema.schema import FeatureColumn, Schema

ROLES = {"transaction_id": "id", "event_time": "t", "account_id": "who", "amount": "a"}


class Share:
    """A classifier whose score is a share of the amount."""

    classes_ = (0, 1)

    def __init__(self, share: float) -> None:
        self.share = share

    def predict_proba(self, matrix: np.ndarray) -> np.ndarray:
        fraud = np.clip(matrix[:, 0] * self.share, 0.0, 1.0)
        return np.column_stack([1 - fraud, fraud])


class Failing(Share):
    """One that fails at amounts from 50 on."""

    def predict_proba(self, matrix: np.ndarray) -> np.ndarray:
        if (matrix[:, 0] >= 50).any():
            raise ValueError(f"the amount {matrix[:, 0].max()} is secret")
        return super().predict_proba(matrix)


class Slow(Share):
    """One that takes 50 microseconds a row."""

    def predict_proba(self, matrix: np.ndarray) -> np.ndarray:
        end = time.thread_time() + 50e-6 * len(matrix)
        while time.thread_time() < end:
            pass
        return super().predict_proba(matrix)


class Careless(Share):
    """One that changes its input."""

    def predict_proba(self, matrix: np.ndarray) -> np.ndarray:
        probabilities = super().predict_proba(matrix)
        matrix[:] = 0
        return probabilities


class Second(Share):
    """One that scores by a second feature, and 0.9 where it is absent."""

    def predict_proba(self, matrix: np.ndarray) -> np.ndarray:
        fraud = np.where(np.isnan(matrix[:, 1]), 0.9, np.clip(matrix[:, 1] * self.share, 0, 1))
        return np.column_stack([1 - fraud, fraud])


def shadow_bundle(
    directory: Path,
    model: Any,
    *,
    features: Sequence[FeatureColumn] = (),
    velocity: Sequence[Any] = (),
    threshold: float = 0.5,
    roles: Mapping[str, str] = ROLES,
) -> str:
    """Write a bundle named like its directory."""
    schema = Schema(
        name="plain",
        roles=dict(roles),
        calendar=False,
        features=tuple(features),
        velocity=tuple(velocity),
    )
    names = [name for definition in velocity for name in definition.names]
    manifest = Manifest(
        name=directory.name,
        kind="imported",
        created="2024-01-01T00:00:00+00:00",
        features=("amount", *(one.column for one in features), *names),
        schema=schema.to_dict(),
        thresholds=Thresholds(threshold),
    )
    write_bundle(str(directory), model, manifest, Reference(), "# card")
    return str(directory)
