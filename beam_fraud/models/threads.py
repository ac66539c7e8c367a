"""One thread a prediction: the graph's workers are the parallelism."""

from __future__ import annotations

import threading
from typing import Any

from threadpoolctl import threadpool_limits

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
