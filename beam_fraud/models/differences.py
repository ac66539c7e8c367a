"""In what models differ, as their manifests tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from beam_fraud.models.manifest import Manifest


@dataclass(frozen=True)
class Differences:
    """What is not the same in all of several models."""

    #: Features that all of them take.
    shared_features: tuple[str, ...]
    #: Features that some take and others don't, to whether each model takes it.
    other_features: dict[str, tuple[bool, ...]]
    #: Settings that differ, to each model's; None where a kind has none of this name.
    settings: dict[str, tuple[Any, ...]]


def differences(manifests: Sequence[Manifest]) -> Differences:
    """Compare the manifests of two models or more."""
    taken = [set(manifest.features) for manifest in manifests]
    features = _in_order(name for manifest in manifests for name in manifest.features)
    names = _in_order(name for manifest in manifests for name in manifest.settings)
    settings = {
        name: tuple(manifest.settings.get(name) for manifest in manifests) for name in names
    }
    return Differences(
        shared_features=tuple(name for name in features if all(name in t for t in taken)),
        other_features={
            name: tuple(name in t for t in taken)
            for name in features
            if not all(name in t for t in taken)
        },
        settings={
            name: values
            for name, values in settings.items()
            if any(value != values[0] for value in values)
        },
    )


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
