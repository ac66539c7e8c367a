"""The Flink that a pipeline goes to."""

from __future__ import annotations

from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions

from beam_fraud.errors import UsageError
from beam_fraud.runners.address import Address
from beam_fraud.runners.flink.rest import FlinkRest

#: What Beam takes for a Flink inside the job server, or for the one that the job server knows.
EMBEDDED = ("[local]", "[auto]", "[collection]")
#: Port of Flink's REST API where none is given.
_REST_PORT = 8081


def flink_master(options: PipelineOptions) -> Address | None:
    """Return where Flink's REST API is, or None if only the job server knows.

    Raises:
      UsageError: `--flink_master` is no address.
    """
    given = str(options.view_as(FlinkRunnerOptions).flink_master).strip()
    if given in EMBEDDED:
        return None
    return Address.parse("--flink_master", given, 443 if given.startswith("https:") else _REST_PORT)


def flink_scheme(options: PipelineOptions) -> str:
    """`https` where `--flink_master` says so, else `http`."""
    given = str(options.view_as(FlinkRunnerOptions).flink_master).strip()
    return "https" if given.startswith("https:") else "http"


def refuse_other_version(master: Address, options: PipelineOptions) -> None:
    """See that Flink there is of the version that Beam's own job server is made for.

    Raises:
      UsageError: it is another one.
      FraudError: what answers there is no Flink.
    """
    if options.view_as(FlinkRunnerOptions).flink_job_server_jar:
        # Somebody's own, made for whatever version.
        return
    version = FlinkRest(master, flink_scheme(options)).version()
    wanted = options.view_as(FlinkRunnerOptions).flink_version
    if version.split(".")[:2] != str(wanted).split("."):
        minor = ".".join(version.split(".")[:2])
        raise UsageError(
            f"--flink_version {wanted}: {master} is Flink {version}; give --flink_version={minor}"
            if minor in FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS
            else f"--flink_master {master}: is Flink {version}, of which Beam has no job server"
        )
