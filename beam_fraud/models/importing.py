"""Models that someone else saved with joblib or pickle."""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt

from beam_fraud.errors import FraudError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.predict import (
    TIMED_ROWS,
    check_classifier,
    microseconds_per_row,
    predict_scores,
)
from beam_fraud.models.threads import set_single_threaded
from beam_fraud.schema import ID_ROLES, Schema

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SavedModel:
    """The bytes of a model file, not opened yet."""

    #: The file.
    path: str
    #: Its contents.
    data: bytes

    @property
    def sha256(self) -> str:
        """The digest of the contents, in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class ImportedModel:
    """A model that fits a schema."""

    #: The classifier, set to predict on one thread.
    model: Any
    #: The features in the order that it takes them.
    features: FeatureSet
    #: What a prediction costs on one thread, on rows of normal random numbers.
    microseconds_per_row: float


def read_model_file(path: str) -> SavedModel:
    """Read a model file without opening what is in it.

    Raises:
      FraudError: it can't be read.
    """
    try:
        return SavedModel(path, Path(path).read_bytes())
    except OSError as error:
        raise FraudError(f"{path}: can't be read ({error.strerror})") from None


def open_trusted(saved: SavedModel, schema: Schema) -> ImportedModel:
    """Open a model file that somebody trusts: this runs whatever code is in it.

    Args:
      saved: the file.
      schema: of the transactions that it shall score.

    Raises:
      FraudError: it can't be opened, is no classifier of fraud, takes other features, or can't do
        without one that the schema lets be absent.
    """
    offered = FeatureSet(schema)
    if offered.categorical:
        raise FraudError(
            f"schema {schema.name}: the codes of {offered.names[offered.categorical[0]]!r} that "
            "the model was trained with are unknown; only numeric features can be imported"
        )
    model = _open(saved)
    try:
        check_classifier(model, len(offered.names))
        features = FeatureSet(schema, order=_order(model, schema))
    except FraudError as error:
        raise FraudError(f"{saved.path}: {error}") from None
    set_single_threaded(model)
    rows = np.random.default_rng(0).normal(size=(TIMED_ROWS, len(features.names)))
    try:
        scores = predict_scores(model, rows[:100])
    except Exception as error:  # whatever a foreign model raises
        raise FraudError(f"{saved.path}: can't score a plain matrix ({_line(error)})") from None
    if scores.min() < 0 or scores.max() > 1:
        raise FraudError(f"{saved.path}: predict_proba gives values outside 0 to 1")
    _check_missing(saved, model, features, rows[:1])
    return ImportedModel(model, features, microseconds_per_row(model, rows))


def _open(saved: SavedModel) -> Any:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = joblib.load(io.BytesIO(saved.data))
        except Exception as error:  # whatever is in the file
            raise FraudError(f"{saved.path}: can't be opened ({_line(error)})") from None
    for warning in caught:
        _log.warning("%s: %s", saved.path, str(warning.message).splitlines()[0])
    return model


def _check_missing(
    saved: SavedModel, model: Any, features: FeatureSet, row: npt.NDArray[np.float64]
) -> None:
    """See that the model scores rows without what the schema lets be absent."""
    row, absent = row.copy(), _may_be_absent(features)
    row[:, [features.names.index(name) for name in absent]] = np.nan
    try:
        scores = predict_scores(model, row)
        reason = "" if np.isfinite(scores).all() else "the score is not a number"
    except Exception as error:  # whatever a foreign model raises
        reason = _line(error)
    if reason:
        raise FraudError(
            f"{saved.path}: can't score a row without {', '.join(map(repr, absent))}, which the "
            f"schema {features.schema.name} lets be absent ({reason}); put an imputer before the "
            "model, or reject such rows in the schema"
        )


def _may_be_absent(features: FeatureSet) -> list[str]:
    allowed = {f.column for f in features.schema.features if f.missing == "allow"}
    for spec in features.velocity:
        # A key that is neither an account nor a merchant may be absent, and all its features then.
        keyed = set(spec.key) <= set(ID_ROLES)
        allowed.update(spec.undefined_names if keyed else spec.names)
    return [name for name in features.names if name in allowed]


def _order(model: Any, schema: Schema) -> tuple[str, ...]:
    names = FeatureSet(schema).names
    taken = getattr(model, "feature_names_in_", None)
    if taken is None:
        return names
    order = tuple("amount" if name == schema.role("amount") else str(name) for name in taken)
    for name in order:
        if name not in names:
            raise FraudError(
                f"it takes the feature {name!r}, which the schema {schema.name} doesn't have"
            )
    return order


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
