"""Whether a Flink cluster can take a pipeline, looked at before it is sent there."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions

from beam_fraud.errors import UsageError
from beam_fraud.runners.address import Address
from beam_fraud.runners.flink.rest import FlinkRest

_LOG = logging.getLogger(__name__)
#: The class of a job server that names what a source has not read yet, and what it holds where the
#: names are few: since Beam 2.76.0, and in the jar of `deploy/flink`.
_RESIDUALS = (
    "org/apache/beam/runners/fnexecution/control/"
    "BundleCheckpointHandlers$StateAndTimerBundleCheckpointHandler.class"
)
_FEW_NAMES = (b"sdf_checkpoint_residuals", b":slot:")
#: What a job server does that has neither, and which one does not.
GROWTH = "is of Beam 2.75.0 or before, by which a stream grows without end, also an idle one"
BOUNDED = "give what python -m deploy.flink.job_server_jar prints, or one of Beam 2.76.0 or newer"
#: Where Flink is configured like this it starts task managers when a job asks for them.
_ON_DEMAND = ("kubernetes.", "yarn.")


def refuse_flink(options: PipelineOptions, flink: FlinkRest) -> None:
    """See that a Flink answers, and that it has the slots that the pipeline asks for.

    Args:
      options: Beam's.
      flink: the REST API of `--flink_master`.

    Raises:
      UsageError: it will never have as many slots.
      FraudError: what answers is no Flink.
    """
    flink.version()
    wanted = options.view_as(FlinkRunnerOptions).parallelism
    overview = flink.get("/overview")
    total, free = overview["slots-total"], overview["slots-available"]
    if wanted > total and not _may_grow(flink):
        fix = f"give at most {total}, or start more task managers" if total else "start one"
        raise UsageError(
            f"--parallelism {wanted}: Flink at {flink.address} has {total} task slots; {fix}"
        )
    if max(wanted, 1) > free:
        _LOG.warning(
            "%d of %d task slots of Flink are free and the job takes %d: it waits for the others; "
            "cancel other jobs, or start more task managers",
            *(free, total, max(wanted, 1)),
        )


def refuse_parallelism(options: PipelineOptions) -> None:
    """See that the parallelism is one.

    Raises:
      UsageError: it is not.
    """
    wanted = options.view_as(FlinkRunnerOptions).parallelism
    # -1 is Beam's own default: as Flink is configured.
    if wanted != -1 and wanted < 1:
        raise UsageError(
            f"--parallelism {wanted}: must be at least 1; leave it out for Flink's own"
        )


def refuse_savepoint(options: PipelineOptions, *, streaming: bool, cluster: Address | None) -> None:
    """See that a savepoint is given to a stream alone, and is there as far as can be told.

    Args:
      options: Beam's.
      streaming: whether the source has no end.
      cluster: where Flink is, or None for this machine.

    Raises:
      UsageError: it is not.
    """
    given = options.get_all_options(drop_default=True).get("savepoint_path")
    if given is None:
        return
    if not streaming:
        raise UsageError("--savepoint_path: only a stream goes on from a savepoint; leave it out")
    parts = urlsplit(given)
    if parts.scheme not in ("", "file"):
        return
    path = Path(unquote(parts.path))
    if not path.is_absolute():
        raise UsageError(
            f"--savepoint_path {given}: must be absolute, as in file:///DIR/savepoint-1"
        )
    if (cluster is None or cluster.here) and not (path / "_metadata").exists() | path.is_file():
        raise UsageError(
            f"--savepoint_path {given}: no savepoint or checkpoint is there; it is the directory "
            "that holds _metadata"
        )


def warn_of_growth(options: PipelineOptions) -> None:
    """Say so if a stream by this `--flink_job_server_jar` would leave a state for each bundle."""
    jar = options.view_as(FlinkRunnerOptions).flink_job_server_jar
    if jar and stream_grows(jar):
        _LOG.warning("--flink_job_server_jar %s: %s; %s", jar, GROWTH, BOUNDED)


def stream_grows(jar: str) -> bool | None:
    """Return whether a stream by a job server leaves a state for each bundle.

    Args:
      jar: the job server.

    Returns:
      None where the jar does not tell: it is at a URL, or somebody's own, made in whatever way.
    """
    try:
        with zipfile.ZipFile(jar) as archive:
            return not any(name in archive.read(_RESIDUALS) for name in _FEW_NAMES)
    except (OSError, KeyError, zipfile.BadZipFile):
        return None


def _may_grow(flink: FlinkRest) -> bool:
    """Whether task managers come by themselves, or a job makes do with the slots that are there."""
    config: Mapping[str, str] = {r["key"]: r["value"] for r in flink.get("/jobmanager/config")}
    adaptive = {config.get(key, "").lower() for key in ("jobmanager.scheduler", "scheduler-mode")}
    return bool(adaptive & {"adaptive", "reactive"}) or any(
        key.startswith(_ON_DEMAND) for key in config
    )
