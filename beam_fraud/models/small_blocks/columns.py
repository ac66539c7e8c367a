"""The steps before a model, without the checks that scikit-learn makes at every call."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from beam_fraud.models.predict import unnamed_columns

Floats = npt.NDArray[np.float64]
#: From float64[n, columns] to what a fitted step makes of them.
Columns = Callable[[Floats], Floats]


#: Larger numbers are infinite in the single precision of some trees, and refused there.
LARGEST = float(np.finfo(np.float32).max)
#: Values of a block that are compared one by one: a step of NumPy takes as long.
_FEW = 64


class BeyondRangeError(Exception):
    """A number that is left to the model itself, because the model refuses it or may refuse it."""


def beyond_range(block: Floats) -> bool:
    """Return whether a number is infinite, or would be in single precision."""
    if block.size <= _FEW:
        return any(value > LARGEST or value < -LARGEST for value in block.ravel().tolist())
    return bool((np.abs(block) > LARGEST).any())


class Lookup:
    """Table of the output of a fitted encoder for each value of one column."""

    def __init__(self, categories: Floats, rows: Floats) -> None:
        """Store the results.

        Args:
          categories: float64[k], increasing and without NaN.
          rows: float64[k + 2, width], of each category, of an unknown one and of NaN.
        """
        self._rows = rows
        self._known = len(categories)
        # No value equals NaN, so places after the last category are unknown.
        self._categories = np.append(categories, np.nan)

    def __call__(self, values: Floats) -> Floats:
        """Return float64[n, width] of float64[n] values."""
        at = np.searchsorted(self._categories[:-1], values)
        unknown = np.where(np.isnan(values), self._known + 1, self._known)
        found: Floats = self._rows[np.where(self._categories[at] == values, at, unknown)]
        return found


def lookups_of(encoder: Any) -> list[Lookup]:
    """Return the results of a fitted encoder of numbers for each of its columns.

    Raises:
      ValueError: it refuses unknown categories, or its categories are no numbers.
    """
    categories = [np.asarray(values, dtype=np.float64) for values in encoder.categories_]
    known = [values[~np.isnan(values)] for values in categories]
    widths = getattr(encoder, "_n_features_outs", [1] * len(known))
    ends = np.cumsum(widths)
    lookups = []
    for place, values in enumerate(known):
        unknown = values[-1] + 1 if len(values) else 0.0
        rows = np.repeat([[values[0] for values in categories]], len(values) + 2, axis=0)
        rows[:, place] = [*values, unknown, np.nan]
        made = np.asarray(encoder.transform(rows))[:, ends[place] - widths[place] : ends[place]]
        lookups.append(Lookup(values, np.ascontiguousarray(made)))
    return lookups


def columns_of(step: Any) -> Columns:
    """Return the function of a fitted step, with the same bits.

    The steps of our own kinds are computed here, others by themselves.
    """
    try:
        return _known(step)
    except (AttributeError, IndexError, TypeError, ValueError):
        return partial(_by_itself, step)


def _by_itself(step: Any, block: Floats) -> Any:
    with unnamed_columns():
        return step.transform(block)


def _known(step: Any) -> Columns:
    """Return the function of a step.

    Raises:
      TypeError: the step, or a setting of it, is none of our own kinds.
    """
    if step is None or step == "passthrough":
        return _unchanged
    if getattr(step, "_sklearn_output_config", {}).get("transform", "default") != "default":
        raise TypeError("it makes data frames")
    if type(step) is Pipeline:
        return partial(_chained, [columns_of(part) for _, part in step.steps])
    if type(step) is ColumnTransformer:
        return _side_by_side(step)
    if type(step) is SimpleImputer:
        return _imputed(step)
    if type(step) is StandardScaler:
        return _scaled(step)
    if type(step) is OneHotEncoder and not step.sparse_output and step.drop is None:
        return partial(_looked_up, lookups_of(step))
    if type(step) is FunctionTransformer and step.func is None:
        return _unchanged
    raise TypeError(f"{type(step).__name__} is none of the known steps")


def _unchanged(block: Floats) -> Floats:
    return block


def _looked_up(lookups: list[Lookup], block: Floats) -> Floats:
    return np.hstack([found(block[:, place]) for place, found in enumerate(lookups)])


def _chained(steps: list[Columns], block: Floats) -> Floats:
    for step in steps:
        block = step(block)
    return block


def _side_by_side(step: ColumnTransformer) -> Columns:
    if step.sparse_output_ or step.transformer_weights:
        raise TypeError("it makes sparse or weighted columns")
    every = np.arange(step.n_features_in_)
    parts = []
    for _, part, chosen in step.transformers_:
        # Raises for columns that are chosen by name.
        places = every[chosen]
        if len(places) and not (isinstance(part, str) and part == "drop"):
            parts.append((places, columns_of(part)))
    return partial(_joined, parts)


def _joined(parts: list[tuple[npt.NDArray[np.int64], Columns]], block: Floats) -> Floats:
    # Of parts in the column order of Fortran NumPy makes such a matrix, as in scikit-learn: the
    # sums of a matrix product depend on it.
    return np.hstack([made(block[:, places]) for places, made in parts])


def _imputed(step: SimpleImputer) -> Columns:
    values = np.asarray(step.statistics_, dtype=np.float64)
    if step.add_indicator or not np.isnan(step.missing_values) or np.isnan(values).any():
        raise TypeError("it adds or drops columns")
    return partial(_filled, values)


def _filled(values: Floats, block: Floats) -> Floats:
    return np.where(np.isnan(block), values, block)


def _scaled(step: StandardScaler) -> Columns:
    mean = step.mean_ if step.with_mean else None
    return partial(_moved, mean, step.scale_ if step.with_std else None)


def _moved(mean: Floats | None, scale: Floats | None, block: Floats) -> Floats:
    block = block if mean is None else block - mean
    return block if scale is None else block / scale
