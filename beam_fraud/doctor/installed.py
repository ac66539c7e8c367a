"""Python and the packages of this machine."""

from __future__ import annotations

import platform
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from beam_fraud import __version__
from beam_fraud.doctor.check import Check, failed, ok, warning

_PACKAGE = "beam-fraud"
#: What a bundle and a pipeline depend on most, told with their versions.
_TOLD = ("apache-beam", "scikit-learn", "numpy", "pyarrow")
#: Extras that bring what no command of its users needs.
_OF_DEVELOPERS = {"dev", "bench"}


def check_packages() -> list[Check]:
    """Whether what this package requires is installed, and which extras are."""
    told = ", ".join(f"{name} {_installed(name) or 'missing'}" for name in _TOLD)
    found = f"Python {platform.python_version()}, {_PACKAGE} {__version__}, {told}"
    try:
        requirements = [Requirement(line) for line in requires(_PACKAGE) or ()]
    except PackageNotFoundError:
        return [warning("packages", f"{found}; {_PACKAGE} is not installed", "pip install it")]
    wrong = [str(needed) for needed in requirements if _needed(needed) and not _met(needed)]
    if wrong:
        named = " ".join(f"'{requirement}'" for requirement in wrong)
        return [failed("packages", found, f"pip install {named}")]
    return [ok("packages", found), _check_extras(requirements)]


def _check_extras(requirements: list[Requirement]) -> Check:
    extras = defaultdict[str, list[Requirement]](list)
    for requirement in requirements:
        for extra in _extras_of(requirement):
            extras[extra].append(requirement)
    there = sorted(extra for extra, needed in extras.items() if all(map(_met, needed)))
    absent = sorted(extras.keys() - set(there))
    more = f"; not installed: {', '.join(absent)}" if absent else ""
    return ok("extras", f"{', '.join(there) or 'none'}{more}")


def _extras_of(requirement: Requirement) -> list[str]:
    """The extra that brings a requirement here; the metadata names it in the marker alone."""
    marker = str(requirement.marker or "")
    names = [part.split('"')[1] for part in marker.split("extra == ")[1:] if '"' in part]
    return [
        name
        for name in names
        if name not in _OF_DEVELOPERS
        and requirement.marker is not None
        and requirement.marker.evaluate({"extra": name})
    ]


def _needed(requirement: Requirement, extra: str = "") -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _met(requirement: Requirement) -> bool:
    """Whether a package is there, with what its own extras bring."""
    found = _installed(requirement.name)
    if found is None or not requirement.specifier.contains(found, prereleases=True):
        return False
    brought = [Requirement(line) for line in requires(requirement.name) or ()]
    return all(
        _met(package)
        for extra in requirement.extras
        for package in brought
        if not _needed(package) and _needed(package, extra)
    )


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
