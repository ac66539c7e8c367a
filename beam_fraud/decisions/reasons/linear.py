"""Exact contributions in logistic regressions, in log-odds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from beam_fraud.decisions.reasons.explainer import Floats, UnexplainableError, Unit, keeps_columns
from beam_fraud.decisions.reasons.tree_shapley import sums_of
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.reference import Reference
from beam_fraud.models.small_blocks.columns import columns_of


@dataclass(frozen=True)
class _Columns:
    """Origin of a regression's columns."""

    #: int64[columns], the feature of each.
    origin: npt.NDArray[np.int64]
    #: bool[columns], whether the mean of the training rows is 0.
    centred: npt.NDArray[np.bool_]


class LinearExplainer:
    """Coefficients times distances from the training mean.

    These are the Shapley values of the log-odds under independent features. The columns of a
    category's encoding are summed. A numeric column without a scaled mean of 0 is compared with the
    feature's usual value.
    """

    approximate = False
    unit: Unit = "log-odds"

    def __init__(
        self, model: Any, typical: Floats, reference: Reference, features: FeatureSet
    ) -> None:
        """Trace the columns of a regression, or of a pipeline that ends in one, to features.

        Args:
          model: fitted, of two classes.
          typical: float64[features] without NaN.
          reference: frequencies of the categories.
          features: the model's features.

        Raises:
          UnexplainableError: a step creates columns of several features.
        """
        steps = model.steps[:-1] if isinstance(model, Pipeline) else []
        self._prepare = columns_of(Pipeline(steps)) if steps else None
        last = model.steps[-1][1] if isinstance(model, Pipeline) else model
        start = _Columns(np.arange(len(typical)), np.zeros(len(typical), dtype=bool))
        columns = _after(Pipeline(steps), start) if steps else start
        self._weights = np.asarray(last.coef_, dtype=np.float64)[0]
        if len(columns.origin) != len(self._weights):
            raise UnexplainableError("the regression sees other columns than its steps make")
        self._centre = self._mean(columns, typical, reference, features)
        self._sums = sums_of(columns.origin, len(typical))

    def contributions(self, block: Floats) -> Floats:
        added = (self._seen(block) - self._centre) * self._weights
        return np.ascontiguousarray((self._sums @ np.ascontiguousarray(added.T)).T)

    def _seen(self, block: Floats) -> Floats:
        seen = block if self._prepare is None else self._prepare(block)
        return np.asarray(seen.toarray() if hasattr(seen, "toarray") else seen, dtype=np.float64)

    def _mean(
        self, columns: _Columns, typical: Floats, reference: Reference, features: FeatureSet
    ) -> Floats:
        mean = np.where(columns.centred, 0.0, self._seen(typical[None, :])[0])
        known = {distribution.feature: distribution for distribution in reference.distributions}
        for place in features.categorical:
            distribution = known.get(features.names[place])
            if distribution is None:
                continue
            counts = np.array([*distribution.counts, distribution.missing], dtype=np.float64)
            rows = np.repeat(typical[None, :], len(counts), axis=0)
            rows[:, place] = [*range(len(distribution.counts)), np.nan]
            seen, here = self._seen(rows[counts > 0]), columns.origin == place
            mean[here] = np.average(seen[:, here], axis=0, weights=counts[counts > 0])
        return mean


def _after(step: Any, columns: _Columns) -> _Columns:
    """Return the columns after a fitted step."""
    if isinstance(step, Pipeline):
        for _, part in step.steps:
            columns = _after(part, columns)
        return columns
    if isinstance(step, ColumnTransformer):
        return _transformed(step, columns)
    if isinstance(step, OneHotEncoder):
        origin = np.repeat(columns.origin, _widths(step))
        return _Columns(origin, np.zeros(len(origin), dtype=bool))
    if step in (None, "passthrough"):
        return columns
    if isinstance(step, FunctionTransformer) and step.func is None:
        return columns
    if keeps_columns(step):
        centred = isinstance(step, StandardScaler) and bool(step.with_mean)
        return _Columns(columns.origin, np.full(len(columns.origin), centred))
    raise UnexplainableError(f"{type(step).__name__} may mix columns")


def _transformed(step: ColumnTransformer, columns: _Columns) -> _Columns:
    parts = {
        name: (part, chosen) for name, part, chosen in step.transformers_ if name != "remainder"
    }
    parts |= {name: (p, chosen) for name, p, chosen in step.transformers_ if name == "remainder"}
    width = max((place.stop for place in step.output_indices_.values()), default=0)
    origin, centred = np.full(width, -1), np.zeros(width, dtype=bool)
    for name, (part, chosen) in parts.items():
        place = step.output_indices_.get(name)
        if place is None or place.stop == place.start or part == "drop":
            continue
        if any(isinstance(column, str) for column in np.atleast_1d(np.asarray(chosen, object))):
            raise UnexplainableError("a ColumnTransformer that takes columns by name")
        indices = np.arange(len(columns.origin))[chosen]
        part_made = _after(part, _Columns(columns.origin[indices], columns.centred[indices]))
        if len(part_made.origin) != place.stop - place.start:
            raise UnexplainableError(f"the step {name} makes other columns than expected")
        origin[place], centred[place] = part_made.origin, part_made.centred
    return _Columns(origin, centred)


def _widths(encoder: OneHotEncoder) -> list[int]:
    """Return the number of columns of each feature."""
    rare = getattr(encoder, "infrequent_categories_", [None] * len(encoder.categories_))
    dropped = encoder.drop_idx_
    return [
        len(values)
        - (0 if few is None else len(few) - 1)
        - (0 if dropped is None or dropped[place] is None else 1)
        for place, (values, few) in enumerate(zip(encoder.categories_, rare, strict=True))
    ]
