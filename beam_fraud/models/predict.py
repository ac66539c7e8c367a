"""Predict fraud with any fitted scikit-learn classifier, on one thread.

The graph's workers are the parallelism, so a prediction uses one thread.
"""

from __future__ import annotations

import math
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from beam_fraud.errors import Code, FraudError

#: Number of model loads so far, each of which may have loaded a library.
_loads = 0


class _Limited(threading.local):
    """Per thread, the number of loads when it last set the limit."""

    loads = -1


_limited = _Limited()


def libraries_loaded() -> None:
    """Record that a model, and perhaps a library, was loaded.

    Limits reach loaded libraries only, so each thread sets them again after a load.
    """
    global _loads
    _loads += 1


@contextmanager
def noting_libraries() -> Iterator[None]:
    """Record at the end of the body whether it may have loaded a library with threads of its own.

    Without one, other threads have nothing to set again, which would take them milliseconds.
    Libraries come with modules; a look at all that are loaded would take milliseconds, too.
    """
    before = len(sys.modules)
    try:
        yield
    finally:
        if len(sys.modules) != before:
            libraries_loaded()


def use_one_thread() -> None:
    """Limit OpenMP and BLAS to one thread in calls of this thread.

    OpenMP's limit belongs to the thread that sets it, and runners may predict in any thread: call
    this before each prediction, which costs nothing once the limit is set. Without it,
    HistGradientBoosting loses a factor 14 to OpenMP's threads inside a pipeline.
    """
    loads = _loads
    if _limited.loads != loads:
        threadpool_limits(1)
        _limited.loads = loads


def set_single_threaded(model: Any) -> None:
    """Set every `n_jobs` of a scikit-learn estimator, and of those within it, to 1."""
    if hasattr(model, "get_params") and hasattr(model, "set_params"):
        names = [name for name in model.get_params(deep=True) if name.split("__")[-1] == "n_jobs"]
        if names:  # CatBoost refuses a call without any
            model.set_params(**dict.fromkeys(names, 1))


#: Rows of a timed prediction: the size of a large block of the graph.
TIMED_ROWS = 50_000
#: Number of timed predictions; the fastest counts, because others were disturbed.
TIMED_RUNS = 3
#: Parts of the rows that are timed before all of them, if there is a bound.
_TRIALS = (16, 4)


@contextmanager
def unnamed_columns() -> Iterator[None]:
    """Accept a matrix without a warning where an estimator was fitted on a data frame."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have valid feature names.*")
        yield


def predict_scores(model: Any, matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the probability of fraud of each row.

    Args:
      model: a classifier of two classes, genuine first, with `predict_proba`.
      matrix: float64[n, features], NaN where a value is absent.

    Returns:
      float64[n] in 0..1.
    """
    if not len(matrix):
        return np.empty(0, dtype=np.float64)
    with unnamed_columns():
        probabilities = model.predict_proba(matrix)
    return np.ascontiguousarray(probabilities[:, 1], dtype=np.float64)


def check_classifier(model: Any, features: int) -> None:
    """Check that `predict_scores` can use a foreign model.

    Args:
      model: any object.
      features: number of features of the schema.

    Raises:
      FraudError: the model has no `predict_proba`, classes other than genuine and fraud in this
        order, or another number of features.
    """
    kind = type(model).__name__
    if not callable(getattr(model, "predict_proba", None)):
        raise FraudError(
            f"{kind} has no predict_proba: only classifiers that give probabilities",
            Code.MODEL_UNSUITED,
        )
    classes = list(getattr(model, "classes_", ()))
    if len(classes) != 2 or classes[1] != 1 or classes[0] not in (0, -1):
        shown = ", ".join(map(str, classes[:5])) or "none, it was never fitted"
        raise FraudError(
            f"{kind} has the classes {shown}: 0 (genuine) and 1 (fraud) are needed",
            Code.MODEL_UNSUITED,
        )
    expected = getattr(model, "n_features_in_", features)
    if expected != features:
        raise FraudError(
            f"{kind} takes {expected} features, the schema has {features}", Code.MODEL_UNSUITED
        )


def microseconds_per_row(
    model: Any, matrix: npt.NDArray[np.float64], bound: float = math.inf
) -> float:
    """Measure the cost of a prediction on one thread.

    Args:
      model: a fitted classifier.
      matrix: float64[n, features] with n > 0; its first `TIMED_ROWS` are predicted.
      bound: microseconds per row that the cost is compared with. The measurement ends as soon as
        the answer is known, so that a slow model does not hold up those who are served meanwhile.

    Returns:
      Microseconds of processor time per row, of the fastest of `TIMED_RUNS` runs: wall time would
      include other work of the machine. With a bound, of the first run under it; over it, of the
      first rows if they alone took as long as all may.
    """
    block = np.ascontiguousarray(matrix[:TIMED_ROWS])
    fastest = math.inf
    with threadpool_limits(1):
        for parts in _TRIALS if bound < math.inf else ():
            rows = -(-len(block) // parts)
            # Of two: the first one may load a library or compile.
            cost = min(_microseconds(model, block[:rows]) for _ in range(2))
            if cost * rows > bound * len(block):
                return round(cost, 3)
        for _ in range(TIMED_RUNS):
            fastest = min(fastest, _microseconds(model, block))
            if fastest <= bound < math.inf:
                break
    return round(fastest, 3)


def _microseconds(model: Any, block: npt.NDArray[np.float64]) -> float:
    start = time.thread_time()
    predict_scores(model, block)
    return (time.thread_time() - start) / len(block) * 1e6
