"""Python and the packages of this machine."""

from __future__ import annotations

import os
import platform
import shutil
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from beam_fraud import __version__
from beam_fraud.models.bundle import load_model, open_bundle
from beam_fraud.operations.doctor.check import Check, failed, ok, tried, warning
from beam_fraud.sources.kafka.settings import KafkaSettings
from beam_fraud.storage.atomic import nearest_directory
from beam_fraud.storage.urls import Place

_PACKAGE = "beam-fraud"
#: Main packages of bundles and pipelines, shown with versions.
_REPORTED = ("apache-beam", "scikit-learn", "numpy", "pyarrow")
#: Extras that no command needs.
_OF_DEVELOPERS = {"dev", "bench"}


def check_packages() -> list[Check]:
    """Check the required packages, and list installed extras."""
    versions = ", ".join(f"{name} {_installed(name) or 'missing'}" for name in _REPORTED)
    finding = f"Python {platform.python_version()}, {_PACKAGE} {__version__}, {versions}"
    try:
        requirements = [Requirement(line) for line in requires(_PACKAGE) or ()]
    except PackageNotFoundError:
        return [warning("packages", f"{finding}; {_PACKAGE} is not installed", "pip install it")]
    wrong = [str(needed) for needed in requirements if _needed(needed) and not _met(needed)]
    if wrong:
        named = " ".join(f"'{requirement}'" for requirement in wrong)
        return [failed("packages", finding, f"pip install {named}")]
    return [ok("packages", finding), _check_extras(requirements)]


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
    """Return the extras of a requirement, which the metadata name in the marker alone."""
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
    """Return whether a package is installed, with the packages of its extras."""
    version = _installed(requirement.name)
    if version is None or not requirement.specifier.contains(version, prereleases=True):
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


#: Minimum of free bytes: state and archive of a day take about as much.
_LITTLE = 2 << 30


def check_disk(out: Place) -> Check:
    """Check the free space at a directory that may not exist yet."""
    if out.local is None:
        return ok("--out", f"{out}: no disk of this machine")
    there = nearest_directory(out.local)
    if not there.is_dir():
        return failed("--out", f"{there} is a file", "give a directory")
    if not os.access(there, os.W_OK | os.X_OK):
        return failed("--out", f"{there} cannot be written to", "give another directory")
    free = shutil.disk_usage(there).free
    finding = f"{free / (1 << 30):,.1f} GiB free at {there}"
    if free < _LITTLE:
        return warning("--out", finding, "make room, or give another directory")
    return ok("--out", finding)


def check_bundle(place: Place) -> Check:
    """Check that a bundle is complete, opens, and matches the installed versions.

    Raises:
      FraudError: it does not open.
    """
    bundle = open_bundle(place)
    load_model(bundle)
    finding = f"{bundle.model_id} opens, all digests match"
    other = [
        f"{name} {saved}, here {here}"
        for name, saved in sorted(bundle.manifest.versions.items())
        if (here := _installed(name)) is not None and here != saved
    ]
    if other:
        return warning("model", f"{finding}; saved by {', '.join(other)}", "pip install the same")
    return ok("model", finding)


def check_kafka(settings: KafkaSettings, topics: Sequence[str]) -> list[Check]:
    """Check that a broker answers and has the topics.

    Raises:
      UsageError: a property is wrong.
      FraudError: the client library is not installed.
    """
    from beam_fraud.sources.kafka.check import brokers, topic_partitions

    def counted(topic: str) -> str:
        partitions = len(topic_partitions(settings, topic))
        return f"{partitions} partition{'' if partitions == 1 else 's'}"

    def answers() -> str:
        count = brokers(settings)
        return f"{settings.bootstrap} answers, {count} broker{'s' if count > 1 else ''}"

    checks = [tried("Kafka", answers)]
    if checks[0].state == "ok":
        checks += [tried(f"topic {topic}", partial(counted, topic)) for topic in topics]
    return checks
