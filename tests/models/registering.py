"""Registries of small bundles, and processes that change one at once."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.dummy import DummyClassifier

from beam_fraud.errors import Code, FraudError
from beam_fraud.models.bundle import Bundle, write_bundle
from beam_fraud.models.manifest import Manifest, Thresholds
from beam_fraud.models.reference import Reference
from beam_fraud.models.registry.registry import (
    Author,
    Registry,
    add_model,
    open_registry,
    promote,
)
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.storage.urls import Place

MANIFEST = Manifest(
    name="dummy",
    kind="imported",
    created="2024-01-01T00:00:00+00:00",
    features=("amount", "is_night"),
    schema=HANDBOOK.to_dict(),
    thresholds=Thresholds(review=0.25),
)
ANN = Author("ann", "a test")
#: Of the models of a small registry.
THRESHOLDS = (0.2, 0.21, 0.22)


def small_bundle(directory: Path, threshold: float = 0.25, name: str = "dummy") -> Bundle:
    """Write a bundle; each threshold is another model."""
    model = DummyClassifier(strategy="prior").fit(np.zeros((4, 2)), [0, 0, 0, 1])
    manifest = replace(MANIFEST, name=name, thresholds=Thresholds(threshold))
    return write_bundle(directory, model, manifest, Reference(), "# card")


def other(bundle: Path, directory: Path, threshold: float) -> Path:
    """Copy a bundle with another threshold, which is another model."""
    shutil.copytree(bundle, directory)
    manifest = directory / "manifest.json"
    values = json.loads(manifest.read_text())
    values["thresholds"]["review"] = threshold
    manifest.write_text(json.dumps(values))
    return directory


def small_registry(directory: Path, models: int = 2) -> tuple[Registry, list[str]]:
    """Make a registry of models whose first is the champion."""
    place = Place.at(directory / "registry")
    ids = []
    for number in range(models):
        bundle = small_bundle(directory / f"bundle{number}", THRESHOLDS[number])
        add_model(place, bundle, ANN)
        ids.append(bundle.model_id)
    return promote(open_registry(place), ids[0], ANN), ids


def promote_for_long(place: Place, ids: list[str], name: str, noted: Path) -> None:
    """Promote models in turn until killed, and note each promotion that was confirmed."""
    number = 0
    with open(noted, "ab", buffering=0) as confirmed:
        while True:
            number += 1
            why = f"{name}/{number}"
            registry = open_registry(place)
            others = [one for one in ids if one != registry.standing.champion]
            try:
                promote(registry, random.choice(others), Author(name, why))
            except FraudError as error:
                if error.code != Code.REGISTRY_CHANGED:
                    raise
                continue
            confirmed.write(f"{why}\n".encode())


def promote_at_once(
    place: Place, ids: list[str], processes: int, kills: int, enough: int, notes: Path
) -> list[str]:
    """Promote from several processes and kill some of them while they work.

    Returns:
      The reasons of all confirmed promotions.
    """
    children: dict[int, Path] = {}
    started = 0
    chance = random.Random(1)

    def start() -> None:
        nonlocal started
        started += 1
        noted = notes / str(started)
        child = os.fork()
        if child == 0:
            try:
                promote_for_long(place, ids, str(started), noted)
            finally:
                os._exit(1)
        children[child] = noted

    def stop(child: int) -> None:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "a promotion failed"
        del children[child]

    for _ in range(processes):
        start()
    try:
        until = time.monotonic() + 120
        while kills or len(confirmed(notes)) < enough:
            assert time.monotonic() < until, "promotions take too long"
            time.sleep(chance.uniform(0.02, 0.1))
            if kills:
                kills -= 1
                stop(chance.choice(list(children)))
                start()
    finally:
        for child in list(children):
            stop(child)
    return confirmed(notes)


def confirmed(notes: Path) -> list[str]:
    return [line for file in notes.iterdir() for line in file.read_text().split()]
