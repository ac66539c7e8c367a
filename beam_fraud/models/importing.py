"""Import models that others saved with joblib or pickle."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import logging
import lzma
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
from sklearn.exceptions import InconsistentVersionWarning

from beam_fraud.errors import Code, FraudError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.foreign import in_words, reason_of
from beam_fraud.models.predict import (
    TIMED_ROWS,
    check_classifier,
    microseconds_per_row,
    predict_scores,
    set_single_threaded,
)
from beam_fraud.platform.wording import own_call
from beam_fraud.schema.schema import ID_ROLES, Schema

_log = logging.getLogger(__name__)
#: Magic bytes of the compressions that joblib knows, and their openers.
_COMPRESSIONS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
    b"\xfd7zXZ": lzma.decompress,
    b"x": zlib.decompress,
}
#: Magic bytes of joblib and pickle files, except the oldest pickle protocol.
_BEGINNINGS = (b"\x80", *_COMPRESSIONS)
#: Pattern of scikit-learn's version in an estimator's pickle, in every protocol.
_SAVED_BY = re.compile(rb"_sklearn_version.{0,12}?(\d+\.\d+(?:\.[0-9a-z]+)*)", re.DOTALL)
#: Rows of the trial prediction.
_TRIED_ROWS = 100


@dataclass(frozen=True)
class SavedModel:
    """The bytes of a model file, not unpickled yet."""

    #: Path of the file.
    path: str
    #: Contents of the file.
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
    #: The features in the model's order.
    features: FeatureSet
    #: Cost of a prediction on one thread, measured on normal random rows.
    microseconds_per_row: float
    #: The version of scikit-learn that saved it; None if unknown.
    saved_by: str | None


def read_model_file(path: str) -> SavedModel:
    """Read a model file without unpickling it.

    Raises:
      FraudError: the file cannot be read.
    """
    try:
        return SavedModel(path, Path(path).read_bytes())
    except OSError as error:
        raise FraudError(
            f"{path}: can't be read ({error.strerror})", Code.INPUT_UNREADABLE
        ) from None


def open_trusted(saved: SavedModel, schema: Schema) -> ImportedModel:
    """Unpickle a trusted model file: this runs any code inside it.

    Args:
      saved: the file.
      schema: the schema of the transactions to score.

    Raises:
      FraudError: it cannot be opened, is no classifier of fraud, has other features, or requires
        one that may be absent by the schema.
    """
    offered = FeatureSet(schema)
    if offered.categorical:
        raise FraudError(
            f"schema {schema.name}: the codes of {offered.names[offered.categorical[0]]!r} that "
            "the model was trained with are unknown; only numeric features can be imported",
            Code.MODEL_UNSUITED,
        )
    with _warnings(saved) as caught:
        with _refused(saved, "can't be opened", caught):
            model = joblib.load(io.BytesIO(saved.data))
        with _refused(saved, "can't be used", caught):
            check_classifier(model, len(offered.names))
            features = FeatureSet(schema, order=_order(model, schema))
            set_single_threaded(model)
            rows = np.random.default_rng(0).normal(size=(TIMED_ROWS, len(features.names)))
        with _refused(saved, "can't score a plain matrix", caught):
            _check_scores(predict_scores(model, rows[:_TRIED_ROWS]))
            _check_missing(model, features, rows[:1])
            cost = microseconds_per_row(model, rows)
    return ImportedModel(model, features, cost, _saved_by(saved, caught))


@contextmanager
def _warnings(saved: SavedModel) -> Iterator[list[warnings.WarningMessage]]:
    """Collect the model's warnings, and log each useful kind once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught
    here, by = version("scikit-learn"), _saved_by(saved, caught)
    if by is not None and by != here:
        _log.warning(
            "%s: saved by scikit-learn %s, %s is installed: scores may differ; compare those of "
            "some rows with the author's before relying on it",
            *(saved.path, by, here),
        )
    others = Counter(
        reason_of(warning.message)
        for warning in caught
        if isinstance(warning.message, Warning)
        and not isinstance(warning.message, InconsistentVersionWarning)
    )
    for line, times in others.items():
        _log.warning("%s: %s%s", saved.path, line, f" ({times} times)" if times > 1 else "")


@contextmanager
def _refused(
    saved: SavedModel, what: str, caught: Sequence[warnings.WarningMessage]
) -> Iterator[None]:
    """Add the file and differing versions to any error of the body."""

    def line(reason: str) -> str:
        here, by = version("scikit-learn"), _saved_by(saved, caught)
        if by is not None and by != here:
            return (
                f"saved by scikit-learn {by}, {what} by the installed {here} ({reason}); train and "
                f"save it again with scikit-learn {here}, or with `{own_call()} train`"
            )
        doubt = "" if saved.data.startswith(_BEGINNINGS) else "is no file of joblib or pickle, "
        return f"{doubt}{what} ({reason})"

    with in_words(saved.path, line):
        yield


def _saved_by(saved: SavedModel, caught: Sequence[warnings.WarningMessage]) -> str | None:
    for warning in caught:
        if isinstance(warning.message, InconsistentVersionWarning):
            return str(warning.message.original_sklearn_version)
    data = saved.data
    for magic, decompress in _COMPRESSIONS.items():
        if data.startswith(magic):
            try:
                data = decompress(data)
            except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error):
                return None  # truncated, or another format with the same magic bytes
    match = _SAVED_BY.search(data)
    return None if match is None else match[1].decode()


def _check_scores(scores: npt.NDArray[np.float64]) -> None:
    if scores.shape != (_TRIED_ROWS,) or not np.isfinite(scores).all():
        raise FraudError("predict_proba does not give each row a probability", Code.MODEL_UNSUITED)
    if scores.min() < 0 or scores.max() > 1:
        raise FraudError("predict_proba gives values outside 0 to 1", Code.MODEL_UNSUITED)


def _check_missing(model: Any, features: FeatureSet, row: npt.NDArray[np.float64]) -> None:
    """Check that the model scores rows without the optional fields of the schema."""
    row, absent = row.copy(), _may_be_absent(features)
    row[:, [features.names.index(name) for name in absent]] = np.nan
    try:
        scores = predict_scores(model, row)
        reason = "" if np.isfinite(scores).all() else "the score is not a number"
    except Exception as error:  # a foreign model may raise anything
        reason = reason_of(error)
    if reason:
        raise FraudError(
            f"can't score a row without {', '.join(map(repr, absent))}, which the "
            f"schema {features.schema.name} lets be absent ({reason}); put an imputer before the "
            "model, or reject such rows in the schema",
            Code.MODEL_UNSUITED,
        )


def _may_be_absent(features: FeatureSet) -> list[str]:
    allowed = {f.column for f in features.schema.features if f.missing == "allow"}
    for spec in features.velocity:
        # A key other than account and merchant may be absent, and all its features with it.
        keyed = set(spec.key) <= set(ID_ROLES)
        allowed.update(spec.undefined_names if keyed else spec.names)
    return [name for name in features.names if name in allowed]


def _order(model: Any, schema: Schema) -> tuple[str, ...]:
    names = FeatureSet(schema).names
    own_names = getattr(model, "feature_names_in_", None)
    if own_names is None:
        return names
    order = tuple("amount" if name == schema.role("amount") else str(name) for name in own_names)
    for name in order:
        if name not in names:
            raise FraudError(
                f"it takes the feature {name!r}, which the schema {schema.name} doesn't have",
                Code.MODEL_UNSUITED,
            )
    return order
