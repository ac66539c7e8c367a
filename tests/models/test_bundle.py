from __future__ import annotations

import json
import pickle
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import Ridge

from beam_fraud.errors import Code, FraudError
from beam_fraud.models.bundle import (
    Bundle,
    load_model,
    open_bundle,
    read_card,
    read_reference,
    write_bundle,
)
from beam_fraud.models.manifest import Manifest, Thresholds, package_version, packages_of
from beam_fraud.models.reference import Reference
from beam_fraud.schema.presets import HANDBOOK, ULB
from tests.failing import fails

MANIFEST = Manifest(
    name="dummy",
    kind="imported",
    created="2024-01-01T00:00:00+00:00",
    features=("amount", "is_night"),
    schema=HANDBOOK.to_dict(),
    thresholds=Thresholds(review=0.25),
)


def write(directory: Path, manifest: Manifest = MANIFEST, model: Any = None) -> Bundle:
    model = model or DummyClassifier(strategy="prior").fit(np.zeros((4, 2)), [0, 0, 0, 1])
    return write_bundle(str(directory), model, manifest, Reference(), "# card")


def edit_manifest(directory: Path, **changes: object) -> None:
    path = directory / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


class Armed:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_bundle_is_read_as_written(tmp_path: Path) -> None:
    written = write(tmp_path / "b")
    bundle = open_bundle(str(tmp_path / "b"))
    assert bundle == written
    assert bundle.thresholds.review == 0.25
    assert bundle.features.names == ("amount", "is_night")
    assert bundle.schema == HANDBOOK
    assert read_card(bundle) == "# card"
    assert read_reference(bundle) == Reference()
    assert load_model(bundle).predict_proba(np.zeros((1, 2)))[0, 1] == 0.25
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b"]


def test_a_bundle_is_small_and_can_be_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "b")
    monkeypatch.chdir(tmp_path)
    sent = pickle.dumps(open_bundle("b"))
    assert len(sent) < 5_000
    monkeypatch.chdir("/")
    load_model(pickle.loads(sent))


def test_a_changed_threshold_is_another_model(tmp_path: Path) -> None:
    one = write(tmp_path / "a")
    other = write(tmp_path / "b", replace(MANIFEST, thresholds=Thresholds(0.3)))
    assert one.model_id.startswith("dummy@")
    assert len(one.model_id) == len("dummy@") + 12
    assert one.model_id != other.model_id


def test_an_earlier_bundle_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "b")
    again = write(tmp_path / "b", replace(MANIFEST, thresholds=Thresholds(0.9)))
    assert open_bundle(str(tmp_path / "b")) == again
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b"]


def test_a_directory_that_is_no_bundle_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with fails(Code.OUTPUT_OCCUPIED):
        write(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("foreign", ["partitions/part-new.parquet", "notes.txt"])
def test_a_directory_with_more_than_a_bundle_is_not_replaced(tmp_path: Path, foreign: str) -> None:
    """As the `--out` of `rescore`, which has a `manifest.json`, too."""
    earlier = write(tmp_path / "b")
    (tmp_path / "b" / foreign).parent.mkdir(exist_ok=True)
    (tmp_path / "b" / foreign).write_text("a year of scores")
    with fails(Code.OUTPUT_OCCUPIED, foreign.partition("/")[0]):
        write(tmp_path / "b", replace(MANIFEST, thresholds=Thresholds(0.9)))
    assert (tmp_path / "b" / foreign).read_text() == "a year of scores"
    assert open_bundle(str(tmp_path / "b")) == earlier


def test_a_failed_write_leaves_the_earlier_bundle(tmp_path: Path) -> None:
    earlier = write(tmp_path / "b")
    with pytest.raises(Exception, match="lambda"):
        write(tmp_path / "b", model=lambda: None)
    assert open_bundle(str(tmp_path / "b")) == earlier
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b"]


@pytest.mark.parametrize("name", ["model.joblib", "reference.parquet", "card.md"])
def test_a_changed_or_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / "b")
    (tmp_path / "b" / name).write_bytes(b"other")
    with fails(Code.BUNDLE_DAMAGED, f"{name} is not the file"):
        open_bundle(str(tmp_path / "b"))
    (tmp_path / "b" / name).unlink()
    with fails(Code.BUNDLE_DAMAGED, f"{name} is missing"):
        open_bundle(str(tmp_path / "b"))


def test_a_tampered_model_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    bundle = write(tmp_path / "b")
    joblib.dump(Armed(tmp_path / "pwned"), tmp_path / "b" / "model.joblib")
    with fails(Code.BUNDLE_DAMAGED):
        open_bundle(str(tmp_path / "b"))
    # Also if it is changed between the check and the use.
    with fails(Code.BUNDLE_DAMAGED):
        load_model(bundle)
    assert not (tmp_path / "pwned").exists()


def test_opening_a_bundle_does_not_open_its_model(tmp_path: Path) -> None:
    write(tmp_path / "b", model=Armed(tmp_path / "touched"))
    open_bundle(str(tmp_path / "b"))
    assert not (tmp_path / "touched").exists()


def test_another_major_version_of_scikit_learn_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "b")
    edit_manifest(tmp_path / "b", versions={"scikit-learn": "0.24.2"})
    with fails(Code.BUNDLE_VERSION, r"scikit-learn 0\.24\.2"):
        open_bundle(str(tmp_path / "b"))


def test_a_feature_that_the_schema_lacks_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "b", replace(MANIFEST, features=("amount", "account_count_9d")))
    with fails(Code.BUNDLE_SCHEMA, "'account_count_9d'"):
        open_bundle(str(tmp_path / "b"))
    bundle = write(tmp_path / "c")
    with fails(Code.BUNDLE_SCHEMA, "'is_night', .* schema ulb"):
        bundle.features_in(ULB)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{}", b"[1]", b"\xff\xfe", b'{"name": 3}', b'{"metrics": {"a": NaN}}'),
        *(b"[" * 10_000, b'{"x": ' * 10_000, b'{"metrics": ' + b'{"x":' * 10_000),
        *(b'{"microseconds_per_row": ' + b"9" * 5_000 + b"}", b'{"metrics": {"a": 1e999}}'),
    ],
    ids=lambda content: str(content[:20]),
)
def test_an_invalid_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    write(tmp_path / "b")
    (tmp_path / "b" / "manifest.json").write_bytes(content)
    with fails(Code.BUNDLE_DAMAGED, r"manifest\.json"):
        open_bundle(str(tmp_path / "b"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"thresholds": {"review": -1.0}}, "review -1 is not from 0 to 1"),
        ({"thresholds": {"review": 0.5, "decline": 2}}, "decline 2 is not from 0 to 1"),
        ({"name": "\x1b[31mred"}, "is no name of a model"),
        ({"schema": {"roles": {"event_time": "t", "amount": 5}}}, "roles: "),
        ({"schema": {"features": [{"column": 3}]}}, "column: "),
        ({"schema": {"features": [{"column": "a", "kind": "weird"}]}}, "kind: .*'weird'"),
        ({"schema": {"features": [3]}}, "not one of this version's"),
        ({"schema": {"features": 3}}, "not one of this version's"),
        ({"schema": {"calendar": "x"}}, "calendar: "),
        ({"schema": {"name": 5}}, "name: "),
        ({"schema": {"timezone": 5}}, "timezone: "),
        ({"schema": {"colour": "blue"}}, "colour"),
        ({"velocity": [{"key": 5}]}, "velocity"),
        ({"velocity": [{"key": [5], "windows": ["1d"], "aggregates": ["count"]}]}, "velocity"),
        ({"features": ["no_such"]}, "'no_such'"),
    ],
)
def test_a_manifest_with_invalid_values_is_one_line_that_names_the_bundle(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    write(tmp_path / "b")
    schema = {**HANDBOOK.to_dict(), **change.pop("schema", {})}
    if "velocity" in change:
        del schema["velocity"]
    edit_manifest(tmp_path / "b", schema=schema, **change)
    with pytest.raises(FraudError, match=message) as caught:
        open_bundle(str(tmp_path / "b"))
    assert type(caught.value) is FraudError
    assert str(caught.value).startswith(str(tmp_path / "b"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [({"weights": [1]}, "dict has no predict_proba"), (3, "takes 3 features")],
)
def test_a_model_that_the_manifest_does_not_describe_is_refused(
    tmp_path: Path, model: Any, message: str
) -> None:
    if model == 3:
        model = DummyClassifier(strategy="prior").fit(np.zeros((4, 3)), [0, 0, 0, 1])
    write(tmp_path / "b", model=model)
    with pytest.raises(FraudError, match=message) as caught:
        load_model(open_bundle(str(tmp_path / "b")))
    assert str(caught.value).startswith(f"{tmp_path}/b: model.joblib")


@pytest.mark.parametrize("path", ["absent", ".", "file"])
def test_other_directories_are_refused_as_bundles(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    with fails(Code.BUNDLE_MISSING):
        open_bundle(str(tmp_path / path))


def test_a_model_that_joblib_cannot_open_is_an_error_of_one_line(tmp_path: Path) -> None:
    write(tmp_path / "b", model=Breaks())
    with pytest.raises(FraudError, match="can't be opened by") as caught:
        load_model(open_bundle(str(tmp_path / "b")))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("installed", ["xgboost", "lightgbm"])
def test_a_model_of_another_major_version_of_its_package_says_so(
    tmp_path: Path, installed: str
) -> None:
    write(tmp_path / "b", model=Breaks())
    here = version("scikit-learn")
    edit_manifest(tmp_path / "b", versions={"scikit-learn": here, installed: "0.90", "numpy": "1"})
    with pytest.raises(FraudError) as caught:
        load_model(open_bundle(str(tmp_path / "b")))
    message = str(caught.value)
    assert f"saved by scikit-learn {here} and {installed} 0.90, can't be opened by " in message
    assert (
        f"by scikit-learn {here} and {installed} {package_version(installed)} (no such" in message
    )
    assert message.endswith(f"; install {installed} 0.* or train again")
    assert "\n" not in message


def test_an_absent_package_has_no_version() -> None:
    assert package_version("no_such_package") is None


def test_a_model_names_packages_that_it_needs_at_any_depth() -> None:
    stored = KeepsBytes()
    assert packages_of({"models": [(Ridge(), stored)]}) == ("keras",)
    assert packages_of([Ridge(), np.zeros((300, 200)), np.zeros((300, 200), order="F")]) == ()


def test_the_message_of_a_part_about_its_missing_package_is_shown(tmp_path: Path) -> None:
    write(tmp_path / "b", model=KeepsBytes())
    with pytest.raises(FraudError) as caught:
        load_model(open_bundle(str(tmp_path / "b")))
    assert str(caught.value) == f"{tmp_path}/b: model.joblib: needs what is not here"


class KeepsBytes:
    """A model with its own form on disk."""

    needs_packages = ("keras",)

    def __setstate__(self, state: object) -> None:
        raise FraudError("needs what is not here", Code.MODEL_UNSUITED)

    def __getstate__(self) -> object:
        return {"model": b""}


def _break() -> None:
    raise AttributeError("no such thing\nin this version")


class Breaks:
    """A model that cannot be restored."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _break, ()
