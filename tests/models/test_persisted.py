"""Bundles of earlier versions open and give their earlier scores."""

from __future__ import annotations

import io
import pickle
import pickletools
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from joblib.numpy_pickle import NumpyUnpickler

from beam_fraud.models.bundle import MODEL_FILE, load_model, open_bundle
from beam_fraud.models.class_weight import with_class_weight
from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds import KINDS, ModelKind, model_kind
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.resampling import RESAMPLERS, resampled
from tests.one_thread import one_thread
from tests.persisted.make import MEMBERS, settings
from tests.persisted.sets import NAMES, SETS, unpack

PARTS = ("bundles.tar.xz", "imported.tar.xz")
#: Parts of names of bundles whose scores take logarithms, powers or products of matrices.
INEXACT = (
    *("logistic", "mlp", "keras", "imported", "average", "stacking", "members", "platt"),
    # Where the processor has AVX-512, NumPy computes logarithms and powers by it.
    "isolation_forest",
)


@dataclass(frozen=True)
class Written:
    """The bundles of a set."""

    #: Where they are.
    directory: Path
    #: Bundle to the classes and functions that its model is pickled by, as `module.name`.
    names: dict[str, set[str]]


def bundles_of(packed: Path) -> list[str]:
    with tarfile.open(packed) as archive:
        paths = (Path(name) for name in archive.getnames())
        return [path.name for path in paths if path.parent.name == "bundles"]


PACKED = [s / part for s in SETS for part in PARTS if (s / part).exists()]
ALL = [pytest.param(p, n, id=f"{p.parent.name}-{n}") for p in PACKED for n in bundles_of(p)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Written]:
    """Return a function that unpacks a part of a set once."""
    result: dict[Path, Written] = {}

    def of(packed: Path) -> Written:
        if packed not in result:
            target = unpack(packed, tmp_path_factory.mktemp("bundles"))
            result[packed] = Written(target, {})
        return result[packed]

    return of


class _Names(NumpyUnpickler):
    """Opens a model and records the names in its pickle."""

    def __init__(self, data: bytes) -> None:
        super().__init__("", io.BytesIO(data), ensure_native_byte_order=True)
        self.names: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.names.add(f"{module}.{name}")
        return super().find_class(module, name)


def own(names: set[str]) -> set[str]:
    return {name for name in names if name.startswith("beam_fraud.")}


@pytest.mark.parametrize(("packed", "name"), ALL)
def test_a_bundle_scores_as_it_did_when_it_was_written(
    packed: Path, name: str, written: Callable[[Path], Written]
) -> None:
    files = written(packed).directory
    with one_thread():
        bundle = open_bundle(str(files / "bundles" / name))
        model = load_model(bundle)
        order = [("noise", "mcc", "amount").index(f) for f in bundle.manifest.features]
        scores = predict_scores(model, np.load(files / "matrix.npy")[:, order])
    inexact = any(part in name for part in INEXACT)
    expected = np.load(files / "scores" / f"{name}.npy")
    assert len(np.unique(expected)) > 2, "the comparison must be about something"
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-12 if inexact else 0)


@pytest.mark.parametrize(("packed", "name"), ALL)
def test_the_names_in_a_bundle_are_listed(
    packed: Path, name: str, written: Callable[[Path], Written]
) -> None:
    # Opened only as what its manifest has the digest of.
    bundle = open_bundle(str(written(packed).directory / "bundles" / name))
    opened = _Names((Path(bundle.path) / MODEL_FILE).read_bytes())
    opened.load()
    assert own(opened.names) <= NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_name_that_was_persisted_is_still_found(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    hint = f"{name} has moved: name its new path in beam_fraud.models.old_paths.OLD_PATHS"
    try:
        result = getattr(import_module(module), attribute, None)
    except ModuleNotFoundError:
        result = None
    assert result is not None, hint


def small_kinds() -> list[ModelKind]:
    """Return every kind, an ensemble of most, and every resampler and weighting in an ensemble."""
    kinds = [model_kind(name, settings(kind)) for name, kind in KINDS.items()]
    members = model_kind(MEMBERS, settings(model_kind(MEMBERS)))
    average = model_kind("average:forest+logistic", ["forest.trees=3"])
    kinds += [members, with_class_weight(average, "balanced")]
    return kinds + [resampled(average, name) for name in RESAMPLERS]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_names_in_a_new_pickle_are_listed() -> None:
    random = np.random.default_rng(0)
    matrix = random.lognormal(3, 1, size=(800, 2))
    labels = ((matrix[:, 1] > 100) & (random.random(800) < 0.9)).astype(np.int8)
    names: set[str] = set()
    with one_thread():
        for kind in small_kinds():
            model = kind.fit(LabelledRows(matrix, labels, ()), 0)
            names |= pickled_by(pickle.dumps(model, protocol=0))
    new = own(names) - NAMES
    assert not new, (
        f"{sorted(new)} are persisted from now on: add them to tests/persisted/names.txt, and a "
        "set of data with them (CONTRIBUTING.md)"
    )


def pickled_by(data: bytes) -> set[str]:
    """Return the classes and functions in a pickle of protocol 0 to 3, without opening it."""
    operations = pickletools.genops(data)
    return {str(arg).replace(" ", ".") for code, arg, _ in operations if code.name == "GLOBAL"}
