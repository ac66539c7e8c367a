"""Limit OpenMP to one thread for all fits of a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec

from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy core make boosting many times slower."""
    # Only libraries that are loaded can be limited.
    for name in ("sklearn.ensemble", "xgboost", "lightgbm"):
        if find_spec(name.split(".")[0]) is not None:
            import_module(name)
    with threadpool_limits(1):
        yield
