"""Models whose windows differ, and transactions for them, an hour apart."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from sklearn.dummy import DummyClassifier

from beam_fraud.models.bundle import load_bundle, write_bundle
from beam_fraud.models.manifest import Manifest, Thresholds
from beam_fraud.models.reference import Reference
from beam_fraud.models.registry.registry import add_model, open_registry, promote
from beam_fraud.schema.schema import Schema
from beam_fraud.schema.velocity import Velocity
from beam_fraud.storage.urls import Place
from tests.models.registering import ANN

START = datetime(2024, 1, 1, tzinfo=UTC)
ROLES = {
    "transaction_id": "id",
    "event_time": "t",
    "amount": "a",
    "account_id": "who",
    "merchant_id": "shop",
}
#: Windows of the first model, longer ones, and part of the first ones.
SHORT = (Velocity(("account_id",), ("12h",), ("count", "mean")),)
LONG = (
    Velocity(("account_id",), ("1d", "2d"), ("count", "std", "max", "seconds_since_last")),
    Velocity(("merchant_id",), ("1d",), ("mean",)),
)
PART = (Velocity(("account_id",), ("12h",), ("mean",)),)


def windowed_bundle(directory: Path, frauds: int, velocity: tuple[Velocity, ...]) -> str:
    """Write a model that gives every row the score `frauds` / 10, and has these windows."""
    names = ("amount", *(name for spec in velocity for name in spec.names))
    labels = [1] * frauds + [0] * (10 - frauds)
    model = DummyClassifier(strategy="prior").fit(np.zeros((10, len(names))), labels)
    schema = Schema(name="shop", roles=ROLES, calendar=False, velocity=velocity)
    manifest = Manifest(
        name=f"m{frauds}",
        kind="imported",
        created="2024-01-01T00:00:00+00:00",
        features=names,
        schema=schema.to_dict(),
        thresholds=Thresholds(0.5),
    )
    write_bundle(str(directory), model, manifest, Reference(), "# card")
    return str(directory)


def put_windowed(place: Place, directory: Path, frauds: int, velocity: tuple[Velocity, ...]) -> str:
    """Add such a model to a registry, promote it, and return its id."""
    bundle = load_bundle(windowed_bundle(directory / f"m{frauds}", frauds, velocity))
    add_model(place, bundle, ANN)
    promote(open_registry(place), bundle.model_id, ANN)
    return bundle.model_id


def record_of(n: int) -> dict[str, Any]:
    """Return the n-th transaction: a row an hour."""
    time = START + timedelta(hours=n)
    who, shop = f"c{n % 3}", f"s{n % 2}"
    return {"id": f"x{n}", "t": time.isoformat(), "a": n % 7 + 0.1, "who": who, "shop": shop}


def write_rows(file: Path, rows: Iterable[int]) -> None:
    """Write transactions as CSV, which appears whole."""
    lines = [",".join(map(str, record_of(n).values())) for n in rows]
    part = file.with_name(f".{file.name}")
    part.write_text("\n".join(["id,t,a,who,shop", *lines]) + "\n")
    part.replace(file)


def kept(out: Path) -> dict[int, tuple[str, dict[str, Any]]]:
    """Return the model and the kept features of each visible row."""
    found: dict[int, tuple[str, dict[str, Any]]] = {}
    for file in sorted((out / "scores").glob("part-*.parquet")):
        for row in pq.read_table(file).to_pylist():
            n = int(row["transaction_id"][1:])
            assert n not in found, "a row is scored twice"
            found[n] = row["model_id"], row["features"]
    return found
