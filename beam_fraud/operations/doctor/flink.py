"""Check the configuration of a Flink cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote, urlsplit

from apache_beam.options.pipeline_options import FlinkRunnerOptions

from beam_fraud.errors import FraudError
from beam_fraud.operations.doctor.check import Check, failed, ok, refused, warning
from beam_fraud.operations.doctor.machine import nearest_directory
from beam_fraud.runners.address import Address
from beam_fraud.runners.flink.cluster import BOUNDED, GROWTH, stream_grows
from beam_fraud.runners.flink.rest import FlinkRest

#: Options of the checkpoint directory in Flink's versions.
_DIRECTORY = ("execution.checkpointing.dir", "state.checkpoints.dir")
_STORAGE = ("execution.checkpointing.storage", "state.checkpoint-storage")
_BACKEND = ("state.backend.type", "state.backend")
_INCREMENTAL = ("execution.checkpointing.incremental", "state.backend.incremental")
_RESTART = ("restart-strategy.type", "restart-strategy")


def check_flink(
    flink: FlinkRest, *, parallelism: int, streaming: bool, storage: str | None = None
) -> list[Check]:
    """Check version, slots, checkpoints, state and restarts of a cluster.

    Args:
      flink: REST API of the cluster.
      parallelism: requested slots; less than 1 for Flink's default.
      streaming: whether the pipeline is a stream.
      storage: checkpoint directory of the pipeline's options, or None.
    """
    try:
        checks = [check_version(flink.version(), str(flink.address))]
        checks.append(check_slots(flink.get("/overview"), max(parallelism, 1)))
        rows = flink.get("/jobmanager/config")
        config = {row["key"]: row["value"] for row in rows}
    except FraudError as error:
        return [refused("Flink", error)]
    place = storage or _first(config, _DIRECTORY)
    checks.append(check_checkpoints(place, config, streaming=streaming, here=flink.address.here))
    return [*checks, check_state(config), check_restarts(config)]


def check_version(version: str, where: str) -> Check:
    """Check that Beam has a job server for a version of Flink."""
    minor, known = ".".join(version.split(".")[:2]), FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS
    if minor not in known:
        fix = f"use Flink {', '.join(known)}"
        return failed("Flink", f"{where} is Flink {version}: Beam has no job server for it", fix)
    return ok("Flink", f"{where} is Flink {version}")


def check_slots(overview: Mapping[str, int], parallelism: int) -> Check:
    """Check that the cluster has the slots of a parallelism.

    Args:
      overview: response of `/overview`.
      parallelism: required slots.
    """
    total, free = overview["slots-total"], overview["slots-available"]
    managers = overview["taskmanagers"]
    slots = f"{free} of {total} free, {managers} task manager{'' if managers == 1 else 's'}"
    if total < parallelism:
        fix = (
            f"start more task managers, or give --parallelism={total}"
            if total
            else "start a task manager"
        )
        return failed("task slots", f"{slots}, {parallelism} requested", fix)
    if free < parallelism:
        fix = "the job waits for free slots: cancel other jobs, or start more task managers"
        return warning("task slots", f"{slots}, {parallelism} requested", fix)
    return ok("task slots", slots)


def check_checkpoints(
    place: str | None, config: Mapping[str, str], *, streaming: bool, here: bool
) -> Check:
    """Check that checkpoints go to a file system.

    Args:
      place: checkpoint directory, or None.
      config: Flink's configuration.
      streaming: whether the pipeline is a stream.
      here: whether the cluster is on this machine.
    """
    name = "checkpoints"
    if place is None or _first(config, _STORAGE) == "jobmanager":
        severity = failed if streaming else warning
        return severity(
            name,
            "go to the job manager's memory, which limits each state to 5 MB",
            "set state.checkpoints.dir to a directory that every machine can read and write, such "
            "as s3://... or file:///...",
        )
    parts = urlsplit(place)
    if parts.scheme not in ("", "file"):
        return ok(name, f"go to {place}, which doctor cannot check")
    if not here:
        fix = "share this directory between all machines of the cluster"
        return warning(name, f"go to {place} on the cluster, which doctor cannot check", fix)
    directory = nearest_directory(Path(unquote(parts.path)).absolute())
    if not directory.is_dir() or not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        return failed(name, f"go to {place}, which is not writable", "give another directory")
    return ok(name, f"go to {Path(unquote(parts.path))}")


def check_state(config: Mapping[str, str]) -> Check:
    """Check that state can exceed memory and that checkpoints are incremental."""
    backend = _first(config, _BACKEND) or "hashmap"
    if backend != "rocksdb":
        return warning(
            "state", f"{backend}: must fit into memory", "set state.backend.type: rocksdb"
        )
    if (_first(config, _INCREMENTAL) or "false").lower() != "true":
        fix = "set state.backend.incremental: true"
        return warning("state", "rocksdb, every checkpoint writes the whole state", fix)
    return ok("state", "rocksdb, incremental checkpoints")


def check_restarts(config: Mapping[str, str]) -> Check:
    """Check that the job restarts after a failed worker."""
    strategy = _first(config, _RESTART)
    if strategy in ("none", "off", "disable"):
        fix = "set restart-strategy.type: exponential-delay"
        return warning("restarts", "none: the first failure ends the job", fix)
    return ok("restarts", strategy or "Flink's default: restart if checkpoints are on")


def check_growth(jar: str | None, server: Address | None) -> Check:
    """Check whether the job server bounds a stream's state.

    Args:
      jar: `--flink_job_server_jar`, or None.
      server: `--job_endpoint`, or None.
    """
    name = "growth"
    if jar is None and server is not None:
        return ok(
            name,
            f"unknown: {server} does not report its version; Beam's job servers before 2.76.0 let "
            "a stream's state grow without bound",
        )
    if jar is None:
        return ok(name, f"none with Beam's job server {version('apache-beam')}")
    grows = stream_grows(jar)
    if grows is None:
        return warning(name, f"unknown: {jar} does not show whether the state is bounded", BOUNDED)
    return warning(name, f"{jar} {GROWTH}", BOUNDED) if grows else ok(name, f"none with {jar}")


def _first(config: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((config[name] for name in names if config.get(name)), None)
