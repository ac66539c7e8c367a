"""Names of the columns of a foreign model, and the categories of each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer

from beam_fraud.errors import Code, FraudError
from beam_fraud.models.estimators.imported import LightGBMBooster, OnnxClassifier
from beam_fraud.models.model_files.onnx_file import encoded_strings, own_features

#: Names that libraries make up for columns without a name: `Column_0`, `f0`, `x0`, `0`.
_MADE_UP = re.compile(r"(Column_|f|x)?(\d+)")
_LIGHTGBM_CATEGORIES = re.compile(r"^\[categorical_feature: ([\d,]*)\]", re.MULTILINE)


@dataclass(frozen=True)
class Encoding:
    """How a model takes a categorical column."""

    #: The categories as the model has them, in its types; None if it does not hold them. Those of
    #: pandas cannot be rebuilt then.
    values: tuple[Any, ...] | None
    #: As values, as a pandas column of categories, or as codes of `models export`.
    form: Literal["values", "pandas", "codes"] = "values"

    @property
    def of_text(self) -> bool:
        """Return whether any category is text; then a number is no category."""
        return self.values is None or any(isinstance(value, str) for value in self.values)


@dataclass(frozen=True)
class ModelColumns:
    """The columns that a model takes, in its order."""

    #: Number of columns; None if the model does not hold it.
    count: int | None
    #: Their names; () if the model has none.
    names: tuple[str, ...]
    #: Position to how the model takes its categories.
    encodings: dict[int, Encoding] = field(default_factory=dict)
    #: Names of columns that the model drops.
    dropped: frozenset[str] = frozenset()

    def without(self, names: Iterable[str]) -> ModelColumns:
        """Return the columns without some that the model drops."""
        kept = [i for i, name in enumerate(self.names) if name not in set(names)]
        return ModelColumns(
            len(kept),
            tuple(self.names[i] for i in kept),
            {new: self.encodings[old] for new, old in enumerate(kept) if old in self.encodings},
        )


def columns_of(model: Any) -> ModelColumns:
    """Read what a model says about its columns.

    Raises:
      FraudError: it takes text, embeddings, or categories in a way that cannot be rebuilt.
    """
    if isinstance(model, OnnxClassifier):
        return _of_onnx(model)
    names = _names(model)
    # CatBoost has both, and 0 features of a file.
    all_names = getattr(model, "feature_names_", None)
    count = getattr(model, "n_features_in_", None) if all_names is None else len(all_names)
    count = len(names) if names else None if count is None else int(count)
    found: dict[int, Encoding] = {}
    if count is not None:
        _collect(model, list(range(count)), found)
    return ModelColumns(count, names, found, _dropped(model, names))


def _of_onnx(model: OnnxClassifier) -> ModelColumns:
    names, categories = own_features(model.graph)
    if names:
        coded = [i for i, name in enumerate(names) if name in categories]
        codes = {i: Encoding(categories[names[i]], "codes") for i in coded}
        return ModelColumns(len(names), names, codes)
    single = all(put.width == 1 for put in model.inputs)
    names = tuple(put.name for put in model.inputs) if single else ()
    encoded, encodings, first = encoded_strings(model.graph), {}, 0
    for put in model.inputs:
        if put.dtype == "str":
            # Only one encoder can be traced to one column without following the graph.
            known = encoded[0] if len(encoded) == 1 and put.width == 1 else None
            texts = [one for one in model.inputs if one.dtype == "str"]
            known = known if len(texts) == 1 else None
            encodings.update({first + i: Encoding(known) for i in range(put.width)})
        first += put.width
    one = len(model.inputs) == 1
    return ModelColumns(model.n_features_in_, () if one else names, encodings)


def _names(model: Any) -> tuple[str, ...]:
    names = _names_in(model)
    if names is None and isinstance(model, LightGBMBooster):
        names = model.booster.feature_name()
    if names is None and isinstance(model, Pipeline):
        steps = [step for _, step in model.steps if step is not None and step != "passthrough"]
        names = _names_in(steps[0]) if steps else None
    if names is None or not all(isinstance(name, str) for name in names):
        return ()
    listed = tuple(str(name) for name in names)
    numbers = [_MADE_UP.fullmatch(name) for name in listed]
    made_up = all(match and int(match[2]) == i for i, match in enumerate(numbers))
    return () if made_up else listed


def _names_in(model: Any) -> Any:
    # CatBoost, and LightGBM before 4.6, have them under names of their own.
    for attribute in ("feature_names_in_", "feature_names_", "feature_name_"):
        names = getattr(model, attribute, None)
        if names is not None:
            return names
    return None


def _first_step(model: Any) -> Any:
    for attribute in ("best_estimator_", "estimator_"):
        inner = getattr(model, attribute, None)
        if inner is not None:
            return _first_step(inner)
    if isinstance(model, Pipeline):
        steps = [step for _, step in model.steps if step is not None and step != "passthrough"]
        return _first_step(steps[0]) if steps else None
    return model


def _dropped(model: Any, names: Sequence[str]) -> frozenset[str]:
    first = _first_step(model)
    if not names or not isinstance(first, ColumnTransformer):
        return frozenset()
    used: set[str] = set()
    for _, part, chosen in first.transformers_:
        if not (isinstance(part, str) and part == "drop"):
            used.update(names[i] for i in _positions(chosen, names))
    return frozenset(set(names) - used)


def _positions(chosen: Any, names: Sequence[str]) -> list[int]:
    """Return the positions of the columns of one part of a ColumnTransformer."""
    if isinstance(chosen, str):
        return [list(names).index(chosen)]
    if isinstance(chosen, slice):
        start, stop = chosen.start, chosen.stop
        start = list(names).index(start) if isinstance(start, str) else start
        # A slice of labels includes its end.
        stop = list(names).index(stop) + 1 if isinstance(stop, str) else stop
        return list(range(len(names)))[slice(start, stop, chosen.step)]
    if isinstance(chosen, int | np.integer):
        return [int(chosen)]
    listed = list(chosen)
    if listed and all(isinstance(one, bool | np.bool_) for one in listed):
        return [i for i, one in enumerate(listed) if one]
    return [list(names).index(one) if isinstance(one, str) else int(one) for one in listed]


def _collect(step: Any, columns: list[int], found: dict[int, Encoding]) -> None:
    """Note the encodings of a fitted step that sees these columns of the model."""
    if step is None or isinstance(step, str):
        return
    if isinstance(step, Pipeline):
        for _, part in step.steps:
            _collect(part, columns, found)
            if not _keeps_columns(part, len(columns)):
                return
        return
    if isinstance(step, ColumnTransformer):
        names = [str(name) for name in getattr(step, "feature_names_in_", columns)]
        for _, part, chosen in step.transformers_:
            _collect(part, [columns[i] for i in _positions(chosen, names)], found)
        return
    if isinstance(step, FeatureUnion):
        for _, part in step.transformer_list:
            _collect(part, columns, found)
        return
    _collect_boosting(step, columns, found)
    categories = getattr(step, "categories_", None)
    if isinstance(categories, list) and len(categories) == len(columns):
        for column, values in zip(columns, categories, strict=True):
            found.setdefault(column, Encoding(tuple(np.asarray(values).tolist())))
        return
    for inner in _inner(step):
        _collect(inner, columns, found)


def _inner(step: Any) -> list[Any]:
    """Return the fitted models within a model, which see the same columns."""
    inner = [getattr(step, n, None) for n in ("best_estimator_", "estimator_", "_preprocessor")]
    calibrated = getattr(step, "calibrated_classifiers_", None) or ()
    inner += [getattr(one, "estimator", None) for one in calibrated]
    if hasattr(step, "named_estimators_"):  # votes and stacks; members of forests see parts
        inner += list(step.named_estimators_.values())
    return [one for one in inner if one is not None and one is not step]


def _keeps_columns(step: Any, count: int) -> bool:
    """Return whether a step leaves the columns, and all texts in them, as they are."""
    if step is None or step == "passthrough":
        return True
    if isinstance(step, FunctionTransformer):
        return step.func is None
    return isinstance(step, SimpleImputer) and len(step.get_feature_names_out()) == count


def _collect_boosting(step: Any, columns: list[int], found: dict[int, Encoding]) -> None:
    kinds = {(kind.__module__.split(".")[0], kind.__name__) for kind in type(step).__mro__}
    if ("xgboost", "XGBModel") in kinds:
        for place, values in _xgboost_categories(step.get_booster()).items():
            found[columns[place]] = Encoding(values, "pandas")
    elif ("lightgbm", "LGBMModel") in kinds or isinstance(step, LightGBMBooster):
        for place, values in _lightgbm_categories(step.booster_).items():
            found[columns[place]] = Encoding(values, "pandas")
    elif ("catboost", "CatBoost") in kinds:
        if step.get_text_feature_indices() or step.get_embedding_feature_indices():
            raise FraudError(
                "CatBoost trained it with features of text or embeddings, which transactions do "
                "not have; train it without them",
                Code.MODEL_UNSUITED,
            )
        for place in step.get_cat_feature_indices():
            found[columns[place]] = Encoding(None)


def _xgboost_categories(booster: Any) -> dict[int, tuple[Any, ...] | None]:
    types = booster.feature_types or ()
    if "c" not in types:
        return {}
    known = dict(enumerate(booster.get_categories(export_to_arrow=True).to_arrow() or ()))
    found: dict[int, tuple[Any, ...] | None] = {}
    for place in (place for place, kind in enumerate(types) if kind == "c"):
        values = known[place][1] if place in known else None
        # A matrix has codes already, and no names.
        if values is not None or booster.feature_names:
            found[place] = None if values is None else tuple(values.to_pylist())
    return found


def _lightgbm_categories(booster: Any) -> dict[int, tuple[Any, ...]]:
    known = booster.pandas_categorical
    if not known:
        return {}
    match = _LIGHTGBM_CATEGORIES.search(booster.model_to_string())
    places = sorted(int(place) for place in match[1].split(",") if place) if match else []
    if len(places) != len(known):
        raise FraudError(
            f"LightGBM saved {len(known)} lists of categories for {len(places)} categorical "
            "columns; train it with unordered pandas categories, and no categorical_feature",
            Code.MODEL_UNSUITED,
        )
    return {place: tuple(values) for place, values in zip(places, known, strict=True)}
