"""Import models that others saved, as they have them."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.exceptions import InconsistentVersionWarning

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.features.matrix import FeatureSet, categories_of
from beam_fraud.models.estimators.imported import (
    FrameColumn,
    ImportedClassifier,
    LightGBMBooster,
)
from beam_fraud.models.foreign import in_words, reason_of
from beam_fraud.models.model_files.columns import ModelColumns, columns_of
from beam_fraud.models.model_files.opening import open_file
from beam_fraud.models.model_files.probe import Probe
from beam_fraud.models.model_files.saved import SavedBy, SavedModel
from beam_fraud.models.model_files.scoring import Scoring, scoring_of
from beam_fraud.models.predict import (
    TIMED_ROWS,
    microseconds_per_row,
    set_single_threaded,
)
from beam_fraud.schema.schema import Schema
from beam_fraud.wording import did_you_mean, own_call

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Confirmed:
    """Options of the user about a model file."""

    #: The features in the model's order; () if the user names none.
    features: tuple[str, ...] = ()
    #: The class that is fraud; None if the user says nothing.
    positive: str | None = None
    #: Whether code in the file may run.
    trust: bool = False


@dataclass(frozen=True)
class ImportedModel:
    """A model that fits a schema."""

    #: The classifier, set to predict on one thread.
    model: Any
    #: Class of the model in the file.
    kind: str
    #: The features in the model's order.
    features: FeatureSet
    #: Name of each feature in the model; () if it has none.
    names: tuple[str, ...]
    #: How scores follow from the model.
    scoring: Scoring
    #: Cost of a prediction on one thread, measured on random rows.
    microseconds_per_row: float
    #: What saved it; None if unknown.
    saved_by: SavedBy | None


def open_saved(
    saved: SavedModel, schema: Schema, confirmed: Confirmed, rows: pa.Table | None = None
) -> ImportedModel:
    """Open a model file and fit it to a schema.

    Opening a pickle, or a file of skops with types that it does not trust, runs code in the file.

    Args:
      saved: the file.
      schema: the schema of the transactions to score.
      confirmed: what the user says about the file.
      rows: transactions of the schema, whose categories count where the model holds none.

    Raises:
      UsageError: the order of the features or the class of fraud must be confirmed, or cannot be
        as confirmed.
      FraudError: the file is not trusted or cannot be opened, or the model is no classifier of
        fraud, has other features, or requires one that may be absent by the schema.
    """
    with _warnings(saved) as caught:
        with _refused(saved, "can't be opened", caught):
            opened = open_file(saved, confirmed.trust)
        with _refused(saved, "can't be used", caught):
            scoring = scoring_of(opened, confirmed.positive)
            columns = _described(columns_of(opened), saved.columns, confirmed.features)
            columns, order = _order(opened, columns, schema, confirmed.features)
            categories = _categories(columns, order, schema, rows)
            features = FeatureSet(schema, categories, order)
            set_single_threaded(opened)
        with _refused(saved, "can't score rows", caught):
            model = _classifier(opened, scoring, columns, features)
            probe = Probe(columns, features)
            probe.check_scores(model)
            cost = microseconds_per_row(model, probe.rows(TIMED_ROWS))
    if isinstance(opened, LightGBMBooster) and confirmed.positive is None and rows is None:
        _log.warning(
            "%s: LightGBM's file does not hold the labels of the training rows: fraud is taken to "
            "be 1, the last in order; confirm it by --positive 1, or check it by --check FILE",
            saved.path,
        )
    kind, by = type(opened).__name__, saved.saved_by(caught)
    return ImportedModel(model, kind, features, columns.names, scoring, cost, by)


@contextmanager
def _warnings(saved: SavedModel) -> Iterator[list[warnings.WarningMessage]]:
    """Collect the model's warnings, and log each useful kind once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught
    by = saved.saved_by(caught)
    # The own formats of boosting libraries mean the same in other versions.
    if by is not None and by.differs and by.library == "scikit-learn":
        _log.warning(
            "%s: saved by %s %s, %s is installed: scores may differ; compare those of "
            "some rows with the author's before relying on it",
            *(saved.path, by.library, by.version, by.here),
        )
    others = Counter(
        reason_of(warning.message)
        for warning in caught
        if isinstance(warning.message, Warning)
        and not isinstance(warning.message, InconsistentVersionWarning)
        # Columns of a model are compared with its names here.
        and "valid feature names" not in str(warning.message)
    )
    for line, times in others.items():
        _log.warning("%s: %s%s", saved.path, line, f" ({times} times)" if times > 1 else "")


@contextmanager
def _refused(
    saved: SavedModel, what: str, caught: Sequence[warnings.WarningMessage]
) -> Iterator[None]:
    """Add the file and differing versions to any error of the body."""

    def line(reason: str) -> str:
        by = saved.saved_by(caught)
        if by is not None and by.differs:
            library, here = by.library, by.here
            return (
                f"saved by {library} {by.version}, {what} by the installed {here} ({reason}); "
                f"train and save it again with {library} {here}, or with `{own_call()} train`"
            )
        return f"{saved.doubt}{what} ({reason})"

    with in_words(saved.path, line):
        yield


def _described(
    columns: ModelColumns, described: tuple[str, ...], chosen: Sequence[str]
) -> ModelColumns:
    """Return the columns with the names of a description beside the file if they have none.

    Raises:
      FraudError: the description is of other columns than the model's, and the user chooses none.
    """
    if not described:
        return columns
    own, count = columns.names, columns.count
    # LightGBM writes blanks as underscores.
    spelt = tuple(name.replace(" ", "_") for name in described)
    if own and own not in (described, spelt) and not chosen:
        raise FraudError(
            f"its signature has the columns {', '.join(described)}, and the model itself "
            f"{', '.join(own)}; name its features by --features",
            Code.MODEL_UNSUITED,
        )
    if not own and count not in (None, len(described)):
        raise FraudError(
            f"its signature has {len(described)} columns, and the model takes {count}; log it "
            "again with the signature of its rows",
            Code.MODEL_UNSUITED,
        )
    return columns if own else replace(columns, count=len(described), names=described)


def _order(
    model: Any, columns: ModelColumns, schema: Schema, given: Sequence[str]
) -> tuple[ModelColumns, tuple[str, ...]]:
    """Return the columns that the model needs, and the feature of each.

    Raises:
      UsageError: the order must be confirmed, or the confirmed one contradicts the model.
      FraudError: the schema lacks a feature.
    """
    kind, offered = type(model).__name__, FeatureSet(schema).names
    known = _spellings(schema, offered)
    chosen = tuple(_chosen(name, known, schema) for name in given)
    for name in chosen:
        if chosen.count(name) > 1:
            raise UsageError(f"--features: {name!r} is named twice", Code.OPTION_VALUE)
    if columns.names and not chosen:
        strange = [name for name in columns.names if name not in known]
        if set(strange) <= columns.dropped:
            columns = columns.without(strange)
        elif strange:
            name = next(name for name in strange if name not in columns.dropped)
            raise FraudError(
                f"it takes the feature {name!r}, which the schema {schema.name} doesn't have; add "
                "it to the schema, or give the schema's names in the model's order "
                f"({', '.join(columns.names)}) by --features",
                Code.MODEL_UNSUITED,
            )
        order = tuple(known[name] for name in columns.names)
        if len(set(order)) < len(order):
            raise FraudError(
                f"its columns {', '.join(columns.names)} are not all different features of the "
                f"schema {schema.name}",
                Code.MODEL_UNSUITED,
            )
        return columns, order
    count = len(offered) if columns.count is None else columns.count
    if not chosen and count == len(offered) == 1:
        return ModelColumns(count, (), columns.encodings), offered
    if not chosen:
        raise UsageError(
            f"{kind} takes {count} features and does not name them; name them by --features in "
            f"the order it was trained in (schema {schema.name} has {','.join(offered)})",
            Code.OPTION_MISSING,
        )
    if columns.count is not None and len(chosen) != columns.count:
        raise UsageError(
            f"--features: names {len(chosen)}, and {kind} takes {columns.count} features",
            Code.OPTION_VALUE,
        )
    for name, own in zip(chosen, columns.names, strict=False):
        if known.get(own, name) != name:
            raise UsageError(
                f"--features: {name!r} stands where the model itself names {own!r}; its order is "
                f"{', '.join(columns.names)}",
                Code.OPTION_CONFLICT,
            )
    return columns, chosen


def _spellings(schema: Schema, offered: Sequence[str]) -> dict[str, str]:
    """Return how a model may spell each feature: the amount by its column, blanks as LightGBM."""
    known = {name: name for name in offered}
    known.setdefault(str(schema.role("amount")), "amount")
    for name, feature in list(known.items()):
        known.setdefault(name.replace(" ", "_"), feature)
    return known


def _chosen(name: str, known: Mapping[str, str], schema: Schema) -> str:
    if name not in known:
        hint = did_you_mean(name, known, f"its features are {', '.join(known)}")
        raise UsageError(
            f"--features: the schema {schema.name} has no feature {name!r}; {hint}",
            Code.OPTION_VALUE,
        )
    return known[name]


def _categories(
    columns: ModelColumns, order: Sequence[str], schema: Schema, rows: pa.Table | None
) -> dict[str, tuple[str, ...]]:
    """Return the known values of each categorical feature: the model's own, or those of rows.

    Raises:
      UsageError: the model does not hold them.
      FraudError: the schema has numbers where the model takes categories.
    """
    kinds = {feature.column: feature.kind for feature in schema.features}
    categories = {}
    for place, name in enumerate(order):
        encoding = columns.encodings.get(place)
        if kinds.get(name) != "categorical":
            if encoding is not None and (encoding.form == "pandas" or encoding.of_text):
                raise FraudError(
                    f"it takes {name!r} as a category, which schema {schema.name} has as a number; "
                    'write kind = "categorical" for it there',
                    Code.MODEL_UNSUITED,
                )
        elif encoding is not None and encoding.form == "pandas" and encoding.values is None:
            raise FraudError(
                f"XGBoost saved the categories of {name!r} as codes alone; train and save it with "
                "XGBoost 3.1 or newer, which saves the values too",
                Code.MODEL_UNSUITED,
            )
        elif encoding is not None and encoding.values is not None:
            categories[name] = tuple(_texts(encoding.values))
        elif rows is not None:
            categories[name] = categories_of(rows.column(name))
            _log.warning(
                "categories of %r are those of the rows of --check, because the model does not "
                "hold a list of its own: any other value counts as unknown",
                name,
            )
        else:
            raise UsageError(
                f"the model does not hold the categories of {name!r}; give rows with all of them "
                "by --check, or make it a number in the schema if the model takes one",
                Code.OPTION_MISSING,
            )
    return categories


def _texts(values: Sequence[Any]) -> dict[str, Any]:
    """Return the category of each text that an input may write it as; absent values are none."""
    texts: dict[str, Any] = {}
    for value in values:
        if value is None or value != value:
            continue
        if isinstance(value, bool):
            texts |= {str(value).lower(): value, str(value): value}
        elif isinstance(value, float) and value.is_integer():
            texts[str(int(value))] = value
        else:
            texts[str(value)] = value
    return texts


def _classifier(opened: Any, scoring: Scoring, columns: ModelColumns, features: FeatureSet) -> Any:
    """Return a model of genuine, fraud for `predict_scores`: the opened one itself if it fits."""
    ours = tuple(_frame_column(place, columns, features) for place in range(len(features.names)))
    foreign_threads = type(opened).__module__.startswith("catboost.")

    def adapted(frame: tuple[FrameColumn, ...]) -> Any:
        return ImportedClassifier(
            opened,
            frame,
            scoring.method,
            scoring.position,
            scoring.sign,
            len(features.names),
            {"thread_count": 1} if foreign_threads else None,
        )

    if any(column.values is not None for column in ours):
        return adapted(ours)
    plain = adapted(())
    if columns.names and not Probe(columns, features).same_scores(plain, adapted(ours)):
        return adapted(ours)
    classes = list(getattr(opened, "classes_", ()))
    direct = plain.plain is not None and len(classes) == 2 and not foreign_threads
    return opened if direct and classes[1] == 1 and classes[0] == 0 else plain


def _frame_column(place: int, columns: ModelColumns, features: FeatureSet) -> FrameColumn:
    name = features.names[place]
    called = columns.names[place] if columns.names else place
    encoding = columns.encodings.get(place)
    if place not in features.categorical or (encoding and encoding.form == "codes"):
        return FrameColumn(called)
    known = features.categories[name]
    if encoding is None or encoding.values is None:
        return FrameColumn(called, _values(list(known), known, features.schema))
    texts = _texts(encoding.values)
    if encoding.form == "pandas":
        at = {value: i for i, value in enumerate(encoding.values)}
        codes = np.array([*(at[texts[text]] for text in known), -1, -1])
        return FrameColumn(called, codes, tuple(encoding.values))
    values = [texts[text] for text in known]
    return FrameColumn(called, _values(values, encoding.values, features.schema))


def _values(known: list[Any], of_model: Sequence[Any], schema: Schema) -> npt.NDArray[Any]:
    """Return the values of k categories, an unknown one and an absent one, as a model has them."""
    absent: Any = next((v for v in of_model if v is None), np.nan)
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        return np.array([*known, max(known, default=0) + 1, np.nan], dtype=np.float64)
    if absent is not None and not any(value != value for value in of_model):
        # Absent values that were written as text before the model was fitted.
        written = {spelling.casefold() for spelling in (*schema.absent, "<NA>", "")}
        absent = next(
            (v for v in of_model if isinstance(v, str) and v.casefold() in written), np.nan
        )
    unknown = "(unknown)"
    while unknown in of_model:
        unknown += " "
    values = np.empty(len(known) + 2, dtype=object)
    values[:] = [*known, unknown, absent]
    return values
