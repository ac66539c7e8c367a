"""Which optional packages a model needs, and their versions."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import Any

from beam_fraud.extras import EXTRAS


def packages_of(model: Any) -> tuple[str, ...]:
    """The optional packages without which a model can't be opened or can't predict.

    Those are the ones that its parts are defined in, at any depth. A class that keeps its model in
    a form of its own names the packages itself, as the attribute `needs_packages`.

    Args:
      model: whatever pickle can save.

    Returns:
      Top-level modules, each one of `EXTRAS`, in alphabetical order.
    """
    parts = _Parts()
    parts.dump(model)
    return tuple(sorted(parts.modules & EXTRAS.keys()))


def package_version(module: str) -> str | None:
    """The version of a top-level module's distribution, None if it is not installed."""
    # Two distributions bring xgboost: with what graphics cards need and without.
    name = packages_distributions().get(module, [module])[0]
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def saved_and_here(saved: Mapping[str, str]) -> tuple[str, str, str]:
    """Words for a model that can't be opened by the versions that are here.

    Args:
      saved: package to the version that saved it.

    Returns:
      What saved it, what is here, both as in `scikit-learn 1.6.1 and xgboost 3.0.2`, and what can
      be done about a package of another major version: empty, or ends the line.
    """
    names = ["scikit-learn", *(name for name in saved if name in EXTRAS)]
    here = {name: package_version(name) or "(not installed)" for name in names}
    by = {name: saved.get(name, "of an unknown version") for name in names}
    other = [name for name in names if _major(by[name]) != _major(here[name])]
    fix = "".join(
        f"; install {name} {_major(by[name])}.* or train again" for name in other if name in saved
    )
    return _listed(by), _listed(here), fix


def _major(number: str) -> str:
    return number.split(".")[0]


def _listed(versions: Mapping[str, str]) -> str:
    return " and ".join(f"{name} {number}" for name, number in versions.items())


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: bytes | pickle.PickleBuffer) -> int:
        return memoryview(data).nbytes


class _Parts(pickle.Pickler):
    """Notes where the classes and functions of what it is given are defined."""

    def __init__(self) -> None:
        super().__init__(_Nowhere(), protocol=pickle.HIGHEST_PROTOCOL)
        self.modules: set[str] = set()

    def reducer_override(self, part: Any) -> Any:
        """Called for every part; leaves it to pickle how to save it."""
        self.modules.add(str(getattr(part, "__module__", "")).split(".")[0])
        self.modules.update(getattr(part, "needs_packages", ()))
        return NotImplemented
