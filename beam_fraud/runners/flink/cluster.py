"""Check that a Flink cluster can run a pipeline before submission."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions

from beam_fraud.errors import Code, UsageError
from beam_fraud.runners.address import Address
from beam_fraud.runners.flink.rest import FlinkRest

_LOG = logging.getLogger(__name__)
#: Class of job servers that name their state per source, and keep few names: since Beam 2.76.0, and
#: in the jar of `deploy/flink`.
_RESIDUALS = (
    "org/apache/beam/runners/fnexecution/control/"
    "BundleCheckpointHandlers$StateAndTimerBundleCheckpointHandler.class"
)
_FEW_NAMES = (b"sdf_checkpoint_residuals", b":slot:")
#: Effect of a job server without it, and the fix.
GROWTH = "is of Beam 2.75.0 or before: the state of a stream grows without bound, even if idle"
BOUNDED = "give the jar that python -m deploy.flink.job_server_jar prints, or one of Beam 2.76.0+"
#: Values of Flink's configuration with which it starts task managers on demand.
_ON_DEMAND = ("kubernetes.", "yarn.")


def refuse_flink(options: PipelineOptions, flink: FlinkRest) -> None:
    """Check that Flink answers and has the slots that the pipeline needs.

    Args:
      options: Beam's options.
      flink: the REST API of `--flink_master`.

    Raises:
      UsageError: it can never have so many slots.
      FraudError: the address is not Flink's.
    """
    flink.version()
    parallelism = options.view_as(FlinkRunnerOptions).parallelism
    overview = flink.get("/overview")
    total, free = overview["slots-total"], overview["slots-available"]
    if parallelism > total and not _may_grow(flink):
        fix = f"give at most {total}, or start more task managers" if total else "start one"
        raise UsageError(
            f"--parallelism {parallelism}: Flink at {flink.address} has {total} task slots; {fix}",
            Code.SLOTS_MISSING,
        )
    if max(parallelism, 1) > free:
        _LOG.warning(
            "%d of %d task slots of Flink are free and the job takes %d: it waits for the others; "
            "cancel other jobs, or start more task managers",
            *(free, total, max(parallelism, 1)),
        )


def refuse_other_version(options: PipelineOptions, flink: FlinkRest) -> None:
    """Refuse a Flink of another version than Beam's own job server is made for.

    Raises:
      UsageError: it is another one.
      FraudError: what answers there is no Flink.
    """
    if options.view_as(FlinkRunnerOptions).flink_job_server_jar:
        # A custom jar, for an unknown version.
        return
    version = flink.version()
    requested = options.view_as(FlinkRunnerOptions).flink_version
    if version.split(".")[:2] != str(requested).split("."):
        minor, at = ".".join(version.split(".")[:2]), flink.address
        raise UsageError(
            f"--flink_version {requested}: {at} is Flink {version}; give --flink_version={minor}"
            if minor in FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS
            else f"--flink_master {at}: is Flink {version}, of which Beam has no job server",
            Code.RUNNER_MISMATCH,
        )


def refuse_parallelism(options: PipelineOptions) -> None:
    """Check that the parallelism is valid.

    Raises:
      UsageError: it is invalid.
    """
    parallelism = options.view_as(FlinkRunnerOptions).parallelism
    # -1 is Beam's default: Flink's configured parallelism.
    if parallelism != -1 and parallelism < 1:
        raise UsageError(
            f"--parallelism {parallelism}: must be at least 1; leave it out for Flink's own",
            Code.OPTION_VALUE,
        )


def refuse_savepoint(options: PipelineOptions, *, streaming: bool, cluster: Address | None) -> None:
    """Check that only a stream names a savepoint, and that it exists where that is known.

    Args:
      options: Beam's options.
      streaming: whether the source is unbounded.
      cluster: address of Flink; None for this machine.

    Raises:
      UsageError: it is invalid.
    """
    location = options.get_all_options(drop_default=True).get("savepoint_path")
    if location is None:
        return
    if not streaming:
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
    if (cluster is None or cluster.here) and not (path / "_metadata").exists() | path.is_file():
        raise UsageError(
            f"--savepoint_path {location}: no savepoint or checkpoint is there; give the directory "
            "that contains _metadata",
            Code.SAVEPOINT_UNUSABLE,
        )


def warn_of_growth(options: PipelineOptions) -> None:
    """Warn if a stream with this `--flink_job_server_jar` adds a state for each bundle."""
    jar = options.view_as(FlinkRunnerOptions).flink_job_server_jar
    if jar and stream_grows(jar):
        _LOG.warning("--flink_job_server_jar %s: %s; %s", jar, GROWTH, BOUNDED)


def stream_grows(jar: str) -> bool | None:
    """Return whether a stream with a job server adds a state for each bundle.

    Args:
      jar: the job server.

    Returns:
      None if unknown: the jar is at a URL, or somebody's own build.
    """
    try:
        with zipfile.ZipFile(jar) as archive:
            return not any(name in archive.read(_RESIDUALS) for name in _FEW_NAMES)
    except (OSError, KeyError, zipfile.BadZipFile):
        return None


def _may_grow(flink: FlinkRest) -> bool:
    """Return whether Flink starts task managers on demand, or a job adapts to the slots."""
    config: Mapping[str, str] = {r["key"]: r["value"] for r in flink.get("/jobmanager/config")}
    adaptive = {config.get(key, "").lower() for key in ("jobmanager.scheduler", "scheduler-mode")}
    return bool(adaptive & {"adaptive", "reactive"}) or any(
        key.startswith(_ON_DEMAND) for key in config
    )
