"""One thread a prediction: the graph's workers are the parallelism."""

from __future__ import annotations

from typing import Any

from threadpoolctl import threadpool_limits


def use_one_thread() -> None:
    """Give the OpenMP and BLAS libraries of this process one thread from now on.

    To be called after the model is loaded, for only libraries that are loaded can be limited.
    HistGradientBoosting loses a factor 14 to OpenMP's threads inside a pipeline without it.
    """
    threadpool_limits(1)


def set_single_threaded(model: Any) -> None:
    """Set every `n_jobs` of a scikit-learn estimator, and of those within it, to 1."""
    if hasattr(model, "get_params") and hasattr(model, "set_params"):
        names = [name for name in model.get_params(deep=True) if name.split("__")[-1] == "n_jobs"]
        model.set_params(**dict.fromkeys(names, 1))
