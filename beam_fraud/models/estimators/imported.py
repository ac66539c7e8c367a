"""Adapt models of other authors: their data frames, their classes, their scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FrameColumn:
    """A column of the data frame that a model takes."""

    #: Name of the column; its position if the model names none.
    name: str | int
    #: array[k + 2]: what the model takes for each code of k categories, for an unknown category and
    #: for an absent one. None for a column of numbers.
    values: npt.NDArray[Any] | None = None
    #: pandas categories of the column, whose positions are then the `values`, -1 for none of them;
    #: None for a column without them.
    categories: tuple[Any, ...] | None = None

    def of(self, block: Floats) -> Any:
        """Return the column of float64[n] numbers or codes: an array or a `pandas.Categorical`."""
        if self.values is None:
            return block
        known = len(self.values) - 2
        codes = np.where(np.isnan(block), known + 1, block).astype(np.int64)
        values = self.values[codes]
        if self.categories is None:
            return values
        return pd.Categorical.from_codes(values, dtype=pd.CategoricalDtype(list(self.categories)))


class ImportedClassifier(ClassifierMixin, BaseEstimator):
    """A foreign model as a classifier of genuine and fraud rows.

    Args:
      model: fitted.
      columns: the columns of its data frame, in the order of the features; () if it takes the
        matrix itself.
      method: the function whose values are the scores. Values of `predict_proba` are used as they
        are. A value d of `decision_function` is mapped to (1 + d / (1 + |d|)) / 2, which increases
        strictly and is 0.5 where the model decides.
      position: the column of `predict_proba` that belongs to fraud.
      sign: -1 if a high value of `decision_function` means genuine.
      features: number of features.
      arguments: keyword arguments of the function.
    """

    def __init__(
        self,
        model: Any,
        columns: tuple[FrameColumn, ...] = (),
        method: Literal["predict_proba", "decision_function"] = "predict_proba",
        position: int = 1,
        sign: int = 1,
        features: int = 0,
        arguments: dict[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.columns = columns
        self.method = method
        self.position = position
        self.sign = sign
        self.features = features
        self.arguments = arguments
        self.classes_ = np.array([0, 1])
        self.n_features_in_ = features

    @property
    def plain(self) -> Any:
        """The model itself, if it takes the matrix and its second class is fraud; else None."""
        fits = not self.columns and self.method == "predict_proba" and self.position == 1
        return self.model if fits else None

    def rows(self, matrix: Floats) -> Any:
        """Return what the model takes for float64[n, features]: the same, or a data frame."""
        if not self.columns:
            return matrix
        values = {c.name: c.of(matrix[:, i]) for i, c in enumerate(self.columns)}
        return pd.DataFrame(values)

    def predict_proba(self, matrix: Floats) -> Floats:
        """float64[n, 2]: one less the score, and the score."""
        rows, arguments = self.rows(matrix), self.arguments or {}
        if self.method == "predict_proba":
            probabilities = np.asarray(self.model.predict_proba(rows, **arguments))
            scores = probabilities[:, self.position].astype(np.float64)
        else:
            decisions = np.asarray(self.model.decision_function(rows, **arguments))
            decisions = self.sign * decisions.astype(np.float64)
            scores = (1 + decisions / (1 + np.abs(decisions))) / 2
        return np.column_stack([1 - scores, scores])


class LightGBMBooster(ClassifierMixin, BaseEstimator):
    """A `lightgbm.Booster` with a probability as its objective, as a classifier.

    Args:
      booster: as `lightgbm.train` returns it.
    """

    def __init__(self, booster: Any) -> None:
        self.booster = booster
        self.booster_ = booster
        classes = booster.num_model_per_iteration()
        self.classes_ = np.arange(max(classes, 2))
        self.n_features_in_ = booster.num_feature()

    def predict_proba(self, rows: Any) -> Floats:
        """float64[n, classes] of a matrix or a data frame."""
        scores = np.asarray(self.booster.predict(rows, num_threads=1), dtype=np.float64)
        return scores if scores.ndim == 2 else np.column_stack([1 - scores, scores])


@dataclass(frozen=True)
class OnnxInput:
    """An input of an ONNX graph."""

    #: Name in the graph.
    name: str
    #: Number of features that it takes.
    width: int
    #: NumPy's name of its type: `float32`, `float64`, `int64`, or `str`.
    dtype: str


@dataclass
class OnnxClassifier:
    """An ONNX graph that gives probabilities, as a classifier."""

    #: The graph, serialised.
    graph: bytes = field(repr=False)
    #: Its inputs, in the order of the features.
    inputs: tuple[OnnxInput, ...]
    #: Its output of probabilities, of shape [n, classes].
    output: str
    #: The classes, in the order of the output; () if the graph does not name them.
    classes_: tuple[Any, ...]
    #: Number of features.
    n_features_in_: int

    needs_packages = ("onnxruntime",)

    def __post_init__(self) -> None:
        self._session: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}

    def predict_proba(self, rows: Any) -> npt.NDArray[Any]:
        """Return the probabilities of a matrix or data frame of n rows, float[n, classes]."""
        if self._session is None:
            self._session = _session(self.graph)
        feeds, first = {}, 0
        for put in self.inputs:
            end = first + put.width
            part = rows.iloc[:, first:end] if isinstance(rows, pd.DataFrame) else rows[:, first:end]
            feeds[put.name] = _tensor(part, put)
            first = end
        (probabilities,) = self._session.run([self.output], feeds)
        return np.asarray(probabilities).reshape(len(rows), -1)


def _tensor(part: Any, put: OnnxInput) -> npt.NDArray[Any]:
    if put.dtype == "str":
        return np.asarray(part, dtype=object)
    values = np.asarray(part, dtype=np.float64)
    if put.dtype == "int64" and np.isnan(values).any():
        raise ValueError(f"the input {put.name} takes whole numbers, and a value is absent")
    return np.ascontiguousarray(values.astype(put.dtype))


def _session(graph: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
