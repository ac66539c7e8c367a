"""Checks of a Flink cluster: its version, slots, checkpoints and state."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote, urlsplit

from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.runners.call import Call
from beam_fraud.runners.check import Caution, Finding, RunnerCheck
from beam_fraud.runners.flink.rest import FlinkRest
from beam_fraud.storage.atomic import nearest_directory

#: Class of job servers that name their state per source, and keep few names: since Beam 2.76.0, and
#: in the jar of `deploy/flink`.
_RESIDUALS = (
    "org/apache/beam/runners/fnexecution/control/"
    "BundleCheckpointHandlers$StateAndTimerBundleCheckpointHandler.class"
)
_FEW_NAMES = (b"sdf_checkpoint_residuals", b":slot:")
#: Effect of a job server without it, and the fix.
_GROWTH = "is of Beam 2.75.0 or before: the state of a stream grows without bound, even if idle"
_BOUNDED = "give the jar that python -m deploy.flink.job_server_jar prints, or one of Beam 2.76.0+"
#: Values of Flink's configuration with which it starts task managers on demand.
_ON_DEMAND = ("kubernetes.", "yarn.")
#: Options of the checkpoint directory in Flink's versions.
_DIRECTORY = ("execution.checkpointing.dir", "state.checkpoints.dir")
_STORAGE = ("execution.checkpointing.storage", "state.checkpoint-storage")
_BACKEND = ("state.backend.type", "state.backend")
_INCREMENTAL = ("execution.checkpointing.incremental", "state.backend.incremental")
_RESTART = ("restart-strategy.type", "restart-strategy")


def _answers(call: Call) -> Iterator[Finding]:
    """Check that Flink answers, and that a job server for its version takes the pipeline."""
    flink = call.flink
    if flink is None:
        if call.runner.name == "FlinkRunner" or call.server is not None:
            yield Caution(
                "only the job server knows its address, so it is not checked",
                "give --flink_master=HOST:PORT; without it a stopped job continues there",
                logged=False,
            )
        return
    flink.address.refuse_silent("--flink_master", "Flink")
    running, at = flink.version(), flink.address
    options = call.options.view_as(FlinkRunnerOptions)
    minor = ".".join(running.split(".")[:2])
    published = minor in FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS
    wanted = options.flink_version
    # A custom jar is for an unknown version.
    own = call.endpoint is None and call.runner.name == "FlinkRunner"
    if own and not options.flink_job_server_jar and minor.split(".") != str(wanted).split("."):
        raise UsageError(
            f"--flink_version {wanted}: {at} is Flink {running}; give --flink_version={minor}"
            if published
            else f"--flink_master {at}: is Flink {running}, of which Beam has no job server",
            Code.RUNNER_MISMATCH,
        )
    if published:
        yield f"{at} is Flink {running}"
        return
    fix = f"use Flink {', '.join(FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS)}"
    yield Caution(f"{at} is Flink {running}, of which Beam has no job server", fix, logged=False)


def _slots(call: Call) -> Iterator[Finding]:
    """Check that Flink has, or starts, the slots that the pipeline needs."""
    if (flink := call.flink) is None:
        return
    wanted = call.options.view_as(FlinkRunnerOptions).parallelism
    overview = flink.get("/overview")
    total, free = overview["slots-total"], overview["slots-available"]
    if wanted > total and not _may_grow(flink):
        fix = f"give at most {total}, or start more task managers" if total else "start one"
        raise UsageError(
            f"--parallelism {wanted}: Flink at {flink.address} has {total} task slots; {fix}",
            Code.SLOTS_MISSING,
        )
    if max(wanted, 1) > free:
        yield Caution(
            f"{free} of {total} task slots of Flink are free and the job takes {max(wanted, 1)}: "
            "it waits for the others",
            "cancel other jobs, or start more task managers",
        )
        return
    managers = overview["taskmanagers"]
    yield f"{free} of {total} free, {managers} task manager{'' if managers == 1 else 's'}"


def _checkpoints(call: Call) -> Iterator[Finding]:
    if (flink := call.flink) is not None:
        config = _config(flink)
        place = call.beam_options.get("state_backend_storage_path") or _first(config, _DIRECTORY)
        here = flink.address.here
        yield checkpoints_at(place, config, streaming=call.streaming, here=here)


def checkpoints_at(
    place: str | None, config: Mapping[str, str], *, streaming: bool, here: bool
) -> Finding:
    """Return whether checkpoints go to a file system.

    Args:
      place: their directory in Flink, or None.
      config: Flink's configuration.
      streaming: whether a stream will run there.
      here: whether the cluster is on this machine.
    """
    if place is None or _first(config, _STORAGE) == "jobmanager":
        found = Caution(
            "go to the job manager's memory, which limits each state to 5 MB",
            "set state.checkpoints.dir to a directory that every machine can read and write, such "
            "as s3://... or file:///...",
        )
        return FraudError(str(found), Code.RUNNER_OPTION) if streaming else found
    parts = urlsplit(place)
    if parts.scheme not in ("", "file"):
        return f"go to {place}, which doctor cannot check"
    if not here:
        fix = "share this directory between all machines of the cluster"
        return Caution(f"go to {place} on the cluster, which doctor cannot check", fix)
    directory = nearest_directory(Path(unquote(parts.path)).absolute())
    if not directory.is_dir() or not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        return FraudError(
            f"go to {place}, which is not writable; give another directory",
            Code.OUTPUT_UNWRITABLE,
        )
    return f"go to {Path(unquote(parts.path))}"


def _state(call: Call) -> Iterator[Finding]:
    """Check that state can exceed memory and that checkpoints are incremental."""
    if (flink := call.flink) is None:
        return
    config = _config(flink)
    backend = _first(config, _BACKEND) or "hashmap"
    if backend != "rocksdb":
        yield Caution(f"{backend}: must fit into memory", "set state.backend.type: rocksdb")
    elif (_first(config, _INCREMENTAL) or "false").lower() != "true":
        fix = "set state.backend.incremental: true"
        yield Caution("rocksdb, every checkpoint writes the whole state", fix)
    else:
        yield "rocksdb, incremental checkpoints"


def _restarts(call: Call) -> Iterator[Finding]:
    """Check that the job restarts after a failed worker."""
    if (flink := call.flink) is None:
        return
    strategy = _first(_config(flink), _RESTART)
    if strategy in ("none", "off", "disable"):
        fix = "set restart-strategy.type: exponential-delay"
        yield Caution("none: the first failure ends the job", fix)
    else:
        yield strategy or "Flink's default: restart if checkpoints are on"


def _growth(call: Call) -> Iterator[Finding]:
    """Check whether the job server bounds a stream's state."""
    if not (call.streaming and call.target.runner.may_be_flink):
        return
    jar = call.options.view_as(FlinkRunnerOptions).flink_job_server_jar
    if jar is None and call.server is not None:
        yield (
            f"unknown: {call.server} does not report its version; Beam's job servers before 2.76.0 "
            "let a stream's state grow without bound"
        )
    elif jar is None:
        yield f"none with Beam's job server {version('apache-beam')}"
    elif (grows := _grows(jar)) is None:
        yield Caution(
            f"unknown: {jar} does not show whether the state is bounded", _BOUNDED, logged=False
        )
    else:
        yield Caution(f"{jar} {_GROWTH}", _BOUNDED) if grows else f"none with {jar}"


def _grows(jar: str) -> bool | None:
    """Return whether a stream with a job server adds a state for each bundle.

    Returns:
      None if unknown: the jar is at a URL, or somebody's own build.
    """
    try:
        with zipfile.ZipFile(jar) as archive:
            return not any(name in archive.read(_RESIDUALS) for name in _FEW_NAMES)
    except (OSError, KeyError, zipfile.BadZipFile):
        return None


def _savepoint(call: Call) -> Iterator[Finding]:
    """Check that only a stream names a savepoint, and that it exists where that is known."""
    location = call.beam_options.get("savepoint_path")
    if location is None:
        return
    if not call.streaming:
        raise UsageError(
            "--savepoint_path: only a stream can resume from a savepoint; leave it out",
            Code.SAVEPOINT_UNUSABLE,
        )
    parts = urlsplit(location)
    if parts.scheme not in ("", "file"):
        return
    path = Path(unquote(parts.path))
    if not path.is_absolute():
        raise UsageError(
            f"--savepoint_path {location}: must be absolute, as in file:///DIR/savepoint-1",
            Code.SAVEPOINT_UNUSABLE,
        )
    near = call.cluster is None or call.cluster.here
    if near and not (path / "_metadata").exists() | path.is_file():
        raise UsageError(
            f"--savepoint_path {location}: no savepoint or checkpoint is there; give the directory "
            "that contains _metadata",
            Code.SAVEPOINT_UNUSABLE,
        )
    if near:
        yield f"{path} is there"


def refuse_parallelism(options: PipelineOptions) -> None:
    """Check that the parallelism is valid.

    Raises:
      UsageError: it is invalid.
    """
    wanted = options.view_as(FlinkRunnerOptions).parallelism
    # -1 is Beam's default: Flink's configured parallelism.
    if wanted != -1 and wanted < 1:
        raise UsageError(
            f"--parallelism {wanted}: must be at least 1; leave it out for Flink's own",
            Code.OPTION_VALUE,
        )


def _config(flink: FlinkRest) -> dict[str, str]:
    return {row["key"]: row["value"] for row in flink.get("/jobmanager/config")}


def _first(config: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((config[name] for name in names if config.get(name)), None)


def _may_grow(flink: FlinkRest) -> bool:
    """Return whether Flink starts task managers on demand, or a job adapts to the slots."""
    config = _config(flink)
    adaptive = {config.get(key, "").lower() for key in ("jobmanager.scheduler", "scheduler-mode")}
    return bool(adaptive & {"adaptive", "reactive"}) or any(
        key.startswith(_ON_DEMAND) for key in config
    )


_NEEDS = ("options", "Flink")
#: The checks of a cluster.
CLUSTER = (
    RunnerCheck("Flink", _answers, needs=("options", "environment")),
    RunnerCheck("task slots", _slots, needs=_NEEDS),
    RunnerCheck("checkpoints", _checkpoints, launch="skip", needs=_NEEDS),
    RunnerCheck("state", _state, launch="skip", needs=_NEEDS),
    RunnerCheck("restarts", _restarts, launch="skip", needs=_NEEDS),
)
#: The checks of a stream.
STREAM = (
    RunnerCheck("growth", _growth, launch="log", needs=("options", "job server")),
    RunnerCheck("savepoint", _savepoint),
)
