"""The probability of fraud by any fitted scikit-learn classifier."""

from __future__ import annotations

import threading
import time
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from beam_fraud.errors import FraudError

#: How often libraries may have been loaded so far.
_loads = 0


class _Limited(threading.local):
    """A thread, and how many loads its limit was set after."""

    loads = -1


_limited = _Limited()


def libraries_loaded() -> None:
    """Tell that a model was loaded, and maybe a library with it.

    Only libraries that are loaded can be limited, so each thread does it again.
    """
    global _loads
    _loads += 1


def use_one_thread() -> None:
    """Give the OpenMP and BLAS libraries one thread for what this thread does from now on.

    OpenMP's limit is that of the thread that sets it, and runners may predict in any thread: to be
    called before each prediction, which costs nothing once it was done. HistGradientBoosting loses
    a factor 14 to OpenMP's threads inside a pipeline without it.
    """
    loads = _loads
    if _limited.loads != loads:
        threadpool_limits(1)
        _limited.loads = loads


def set_single_threaded(model: Any) -> None:
    """Set every `n_jobs` of a scikit-learn estimator, and of those within it, to 1."""
    if hasattr(model, "get_params") and hasattr(model, "set_params"):
        names = [name for name in model.get_params(deep=True) if name.split("__")[-1] == "n_jobs"]
        model.set_params(**dict.fromkeys(names, 1))


#: Rows of a prediction that is timed, as many as a large block of the graph has.
TIMED_ROWS = 50_000
#: Times that a prediction is timed; the fastest counts, the others were disturbed.
TIMED_RUNS = 3


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
    with warnings.catch_warnings():
        # A model that was fitted on a data frame takes the same columns without their names.
        warnings.filterwarnings("ignore", message=".*does not have valid feature names.*")
        probabilities = model.predict_proba(matrix)
    return np.ascontiguousarray(probabilities[:, 1], dtype=np.float64)


def check_classifier(model: Any, features: int) -> None:
    """Make sure that `predict_scores` can serve a model that someone else made.

    Args:
      model: any object.
      features: how many features the schema has.

    Raises:
      FraudError: the model has no `predict_proba`, other classes than genuine and fraud in this
        order, or another number of features.
    """
    kind = type(model).__name__
    if not callable(getattr(model, "predict_proba", None)):
        raise FraudError(f"{kind} has no predict_proba: only classifiers that give probabilities")
    classes = list(getattr(model, "classes_", ()))
    if len(classes) != 2 or classes[1] != 1 or classes[0] not in (0, -1):
        shown = ", ".join(map(str, classes[:5])) or "none, it was never fitted"
        raise FraudError(f"{kind} has the classes {shown}: 0 (genuine) and 1 (fraud) are needed")
    taken = getattr(model, "n_features_in_", features)
    if taken != features:
        raise FraudError(f"{kind} takes {taken} features, the schema has {features}")


def microseconds_per_row(model: Any, matrix: npt.NDArray[np.float64]) -> float:
    """Return what a prediction costs on one thread.

    Args:
      model: a fitted classifier.
      matrix: float64[n, features] with n > 0; its first `TIMED_ROWS` are predicted.

    Returns:
      Microseconds of processor time a row, of the fastest of `TIMED_RUNS` runs: wall time would
      count what else the machine was doing.
    """
    block = np.ascontiguousarray(matrix[:TIMED_ROWS])
    seconds = []
    with threadpool_limits(1):
        for _ in range(TIMED_RUNS):
            start = time.thread_time()
            predict_scores(model, block)
            seconds.append(time.thread_time() - start)
    return round(min(seconds) / len(block) * 1e6, 3)
