"""A model bundle: a directory with a model, its manifest, reference and card."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import joblib
import msgspec
import numpy as np
from threadpoolctl import threadpool_limits

from beam_fraud.errors import EXTRAS, Code, FraudError, UsageError, need_extras
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.foreign import in_words
from beam_fraud.models.manifest import (
    Manifest,
    Thresholds,
    decode_manifest,
    encode_manifest,
    installed_versions,
    model_id,
    packages_of,
    saved_and_here,
)
from beam_fraud.models.predict import check_classifier, predict_scores
from beam_fraud.models.storage import check_directory, read_bytes, write_directory
from beam_fraud.schema.schema import Schema
from beam_fraud.storage.store import BUNDLE_MARKS
from beam_fraud.storage.urls import Place
from beam_fraud.wording import own_call

if TYPE_CHECKING:
    from beam_fraud.models.reference import Reference
    from beam_fraud.models.reliability import Reliability

MANIFEST_FILE, MODEL_FILE = BUNDLE_MARKS
REFERENCE_FILE = "reference.parquet"
CARD_FILE = "card.md"
#: Figures after each epoch of a model that is fitted in epochs.
HISTORY_FILE = "history.json"
#: Validation rows by score, of a model with labels.
RELIABILITY_FILE = "reliability.parquet"
#: Files whose digests a manifest must contain.
DIGESTED_FILES = (MODEL_FILE, REFERENCE_FILE, CARD_FILE)
#: Files that a bundle may have.
OPTIONAL_FILES = (HISTORY_FILE, RELIABILITY_FILE)
#: Names of all files of a bundle.
BUNDLE_FILES = frozenset((MANIFEST_FILE, *DIGESTED_FILES, *OPTIONAL_FILES))


@dataclass(frozen=True)
class Bundle:
    """A checked bundle, small enough to be sent to every worker.

    The model stays in the bundle's directory, or in `contents` until the bundle is saved.
    """

    #: The directory; None while the bundle is in memory.
    place: Place | None
    #: The model's name and the first 12 hexadecimal digits of its manifest's SHA-256.
    model_id: str
    #: The manifest of the model.
    manifest: Manifest
    #: Name to bytes of every file while the bundle is in memory; None once it has a directory.
    contents: Mapping[str, bytes] | None = field(default=None, repr=False)

    @property
    def path(self) -> str:
        """The directory, an absolute path or a URL; the model's name while it is in memory."""
        return self.manifest.name if self.place is None else self.place.name

    def save(self, directory: str | Path | Place) -> Bundle:
        """Write the files of the bundle to another directory, all or none.

        Args:
          directory: a path or URL; an earlier bundle there is replaced.

        Returns:
          The bundle in `directory`, with the same `model_id`.

        Raises:
          FraudError: the directory holds other files or cannot be written; or a file of this bundle
            is missing or changed.
        """
        contents, place = self.contents, Place.of(directory)
        if contents is None:
            contents = {name: _read_checked(self, name) for name in self.manifest.files}
            contents[MANIFEST_FILE] = _read(self, MANIFEST_FILE)
        write_directory(place, contents, MANIFEST_FILE, BUNDLE_FILES)
        return replace(self, place=Place(place.name, place.local), contents=None)

    @property
    def schema(self) -> Schema:
        """The schema of the transactions that the model was trained on."""
        values = {"velocity": self.manifest.velocity, **self.manifest.schema}
        return Schema.from_dict(values)

    @property
    def features(self) -> FeatureSet:
        """The features that the model takes, of transactions in the bundle's own schema."""
        return self.features_in(self.schema)

    @property
    def thresholds(self) -> Thresholds:
        """The scores from which a transaction is reviewed or declined."""
        return self.manifest.thresholds

    def features_in(self, schema: Schema, also: Iterable[str] = ()) -> FeatureSet:
        """Return the features that the model takes, of transactions in another schema.

        Args:
          schema: of the transactions.
          also: names of fields needed beside the model's features; velocity features among them are
            computed too.

        Raises:
          FraudError: the schema lacks a feature of the model, or the key column of a velocity
            feature.
        """
        self._check_currency(schema)
        # The model defines its features; only the places of the columns may differ.
        needed = tuple(
            replace(definition, by_currency=bool(definition.by_currency))
            for definition in FeatureSet(self.schema, order=self.manifest.features).velocity
        )
        computed = {name for definition in needed for name in definition.names}
        offered = computed.union(FeatureSet(replace(schema, velocity=())).names)
        for name in self.manifest.features:
            if name not in offered:
                raise FraudError(
                    f"{self.path}: the model needs the feature {name!r}, "
                    f"which the schema {schema.name} doesn't have",
                    Code.BUNDLE_SCHEMA,
                )
        missing = set(also) - computed
        beside = tuple(part for definition in schema.velocity for part in definition.only(missing))
        try:
            schema = replace(schema, velocity=(*needed, *beside))
        except UsageError as error:
            raise FraudError(
                f"{self.path}: the model's features need more: {error}", Code.BUNDLE_SCHEMA
            ) from None
        names = tuple(name for definition in beside for name in definition.names)
        return FeatureSet(schema, dict(self.manifest.categories), self.manifest.features, names)

    def _check_currency(self, schema: Schema) -> None:
        """Check that a schema has amounts in the currency that the model was trained on."""
        own, given = self.schema.conversion, schema.conversion
        taken = None if own is None else own.to
        offered = None if given is None else given.to
        # A model of one currency, which no column names, may take converted amounts.
        if taken == offered or (taken is None and "currency" not in self.schema.roles):
            return
        raise FraudError(
            f"{self.path}: the model takes amounts {_spoken(taken)}, and the schema {schema.name} "
            f"has them {_spoken(offered)}; write the same to under [currency]",
            Code.BUNDLE_SCHEMA,
        )

    def velocity_names(self) -> tuple[str, ...]:
        """Return the names of the velocity features computed for the model, used by it or not."""
        return tuple(name for definition in self.features.velocity for name in definition.names)


def _spoken(currency: str | None) -> str:
    return "as paid" if currency is None else f"in {currency}"


def write_bundle(
    directory: str | Path | Place,
    model: Any,
    manifest: Manifest,
    reference: Reference,
    card: str,
) -> Bundle:
    """Save a model with its files, all or none.

    Args:
      directory: a path or URL; an earlier bundle there is replaced.
      model, manifest, reference, card: as `make_bundle` takes them.

    Returns:
      The bundle in `directory`.

    Raises:
      FraudError: the directory holds other files or cannot be written.
    """
    place = Place.of(directory)
    return make_bundle(model, manifest, reference, card, place=place).save(place)


def make_bundle(
    model: Any,
    manifest: Manifest,
    reference: Reference,
    card: str,
    files: Mapping[str, bytes] | None = None,
    place: Place | None = None,
) -> Bundle:
    """Create a bundle in memory.

    Args:
      model: a fitted classifier that joblib can save.
      manifest: its manifest; `files` and `versions` are filled in here.
      reference: the distributions of its training rows.
      card: the model card, Markdown.
      files: name to contents of further files, some of `OPTIONAL_FILES`.
      place: the future directory, for error messages; its name if None.

    Raises:
      FraudError: the model cannot be saved.
    """
    saved = io.BytesIO()
    with in_words(
        place.shown if place else manifest.name,
        lambda reason: (
            f"the model can't be saved ({reason}); define its classes and functions in a module "
            "that is installed where it scores"
        ),
    ):
        joblib.dump(model, saved)
        versions = installed_versions(packages_of(model))
    files = {
        **(files or {}),
        MODEL_FILE: saved.getvalue(),
        REFERENCE_FILE: reference.to_parquet(),
        CARD_FILE: card.encode(),
    }
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    manifest = replace(manifest, files=digests, versions=versions)
    data = encode_manifest(manifest)
    contents = {**files, MANIFEST_FILE: data}
    return Bundle(None, model_id(manifest.name, data), manifest, contents)


def load_bundle(path: str | Path) -> Bundle:
    """Read and check a bundle without opening its model (see `open_bundle`).

    Raises:
      FraudError: `path` is no bundle, or one that this installation cannot use.
    """
    return open_bundle(path)


def open_bundle(directory: str | Path | Place) -> Bundle:
    """Read and check a bundle without opening its model.

    Raises:
      FraudError: `directory` is no bundle, one of its files is missing or changed, its manifest is
        invalid, a feature is not in its schema, or another major version of scikit-learn saved it.
    """
    place = Place.of(directory)
    path = place.shown
    try:
        data = read_bytes(place, MANIFEST_FILE)
    except FileNotFoundError:
        raise FraudError(
            f"{path}: not a model bundle, it has no {MANIFEST_FILE} "
            f"(`{own_call()} train` makes one)",
            Code.BUNDLE_MISSING,
        ) from None
    try:
        manifest = decode_manifest(data)
    except RecursionError:
        raise FraudError(
            f"{path}: {MANIFEST_FILE} can't be read (it nests too deeply)", Code.BUNDLE_DAMAGED
        ) from None
    except (msgspec.DecodeError, ValueError) as error:
        raise FraudError(
            f"{path}: {MANIFEST_FILE} can't be read ({error})", Code.BUNDLE_DAMAGED
        ) from None
    if not manifest.name.isprintable():
        raise FraudError(
            f"{path}: {MANIFEST_FILE}: {manifest.name!r} is no name of a model", Code.BUNDLE_DAMAGED
        )
    bundle = Bundle(Place(place.name, place.local), model_id(manifest.name, data), manifest)
    noted = (name for name in OPTIONAL_FILES if name in manifest.files)
    for name in (*DIGESTED_FILES, *noted):
        _read_checked(bundle, name)
    _check_scikit_learn(bundle)
    try:
        _ = bundle.features
    except UsageError as error:
        # An invalid schema of the user is a usage error, one in a bundle is damage.
        raise FraudError(f"{path}: {MANIFEST_FILE}: {error}", Code.BUNDLE_DAMAGED) from None
    return bundle


def load_model(bundle: Bundle) -> Any:
    """Open the model of a bundle.

    joblib opens the very bytes whose digest was compared with the manifest's.

    Raises:
      FraudError: the file is missing or changed, a required package is absent or fails to open it,
        or it is no classifier of the manifest's features.
    """
    data = _read_checked(bundle, MODEL_FILE)

    def line(reason: str) -> str:
        saved, here, fix = saved_and_here(bundle.manifest.versions)
        return f"saved by {saved}, can't be opened by {here} ({reason}){fix}"

    features = len(bundle.manifest.features)
    with (
        in_words(f"{bundle.path}: {MODEL_FILE}", line),
        warnings.catch_warnings(),
        threadpool_limits(1),
    ):
        # The manifest names the version that saved it; `open_bundle` refuses another major one.
        warnings.filterwarnings("ignore", message="Trying to unpickle estimator")
        model = joblib.load(io.BytesIO(data))
        check_classifier(model, features)
        # An object of another version may open, but lack attributes that a prediction needs.
        predict_scores(model, np.zeros((1, features)))
    return model


def check_place(place: Place) -> None:
    """Check that a bundle can be written to a directory, before the work that ends in it.

    Raises:
      FraudError: the directory holds other files or cannot be written.
    """
    check_directory(place, MANIFEST_FILE, BUNDLE_FILES)


def check_packages(bundle: Bundle) -> None:
    """Check that the packages of the model are installed, without opening it.

    Raises:
      FraudError: a package is missing; the message names its extra.
    """
    needed = (name for name in bundle.manifest.versions if name in EXTRAS)
    need_extras(needed, f"{bundle.path}: {MODEL_FILE}")


def read_reference(bundle: Bundle) -> Reference:
    """Return the distributions that the model was trained on.

    Raises:
      FraudError: the file is missing or changed.
    """
    from beam_fraud.models.reference import Reference

    return Reference.from_parquet(_read_checked(bundle, REFERENCE_FILE))


def read_reliability(bundle: Bundle) -> Reliability | None:
    """Return the validation rows by score; None if the bundle has none.

    Raises:
      FraudError: the file is missing or changed.
    """
    from beam_fraud.models.reliability import Reliability

    if RELIABILITY_FILE not in bundle.manifest.files:
        return None
    return Reliability.from_parquet(_read_checked(bundle, RELIABILITY_FILE))


def read_card(bundle: Bundle) -> str:
    """Return the model card, Markdown.

    Raises:
      FraudError: the file is missing or changed.
    """
    return _read_checked(bundle, CARD_FILE).decode()


def _read_checked(bundle: Bundle, name: str) -> bytes:
    try:
        data = _read(bundle, name)
    except (FileNotFoundError, KeyError):
        raise FraudError(
            f"{bundle.path}: {name} is missing from the bundle", Code.BUNDLE_DAMAGED
        ) from None
    if hashlib.sha256(data).hexdigest() != bundle.manifest.files.get(name):
        raise FraudError(
            f"{bundle.path}: {name} is not the file that {MANIFEST_FILE} describes "
            "(changed or damaged); train or copy the bundle again",
            Code.BUNDLE_DAMAGED,
        )
    return data


def _read(bundle: Bundle, name: str) -> bytes:
    if bundle.contents is not None or bundle.place is None:
        return (bundle.contents or {})[name]
    return read_bytes(bundle.place, name)


def _check_scikit_learn(bundle: Bundle) -> None:
    saved_by, here = bundle.manifest.versions.get("scikit-learn", ""), version("scikit-learn")
    if saved_by.split(".")[0] != here.split(".")[0]:
        raise FraudError(
            f"{bundle.path}: saved by scikit-learn {saved_by or 'of an unknown version'}, here is "
            f"{here}; install scikit-learn {saved_by.split('.')[0] or '1'}.* or train again",
            Code.BUNDLE_VERSION,
        )


_LOCK = Lock()
_LOADED: WeakValueDictionary[tuple[str, str], Any] = WeakValueDictionary()


def shared_model(bundle: Bundle) -> Any:
    """Return the model of a bundle, the same object for as long as anybody in this process has it.

    Raises:
      FraudError: as `load_model` says.
    """
    key = _key_of(bundle)
    with _LOCK:
        model = _LOADED.get(key)
        if model is None:
            model = load_model(bundle)
            _LOADED[key] = model
        return model


def share_model(bundle: Bundle, model: Any) -> Any:
    """Return what `shared_model` returns from here on: the model it has already, or this one.

    Args:
      bundle: the bundle.
      model: its model, which another process of this program has opened and checked.
    """
    with _LOCK:
        return _LOADED.setdefault(_key_of(bundle), model)


def _key_of(bundle: Bundle) -> tuple[str, str]:
    return bundle.path, bundle.manifest.files.get(MODEL_FILE, "")
