"""The address and version of Flink."""

from __future__ import annotations

from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions

from beam_fraud.errors import Code, UsageError
from beam_fraud.runners.address import Address
from beam_fraud.runners.flink.rest import FlinkRest

#: Values of `--flink_master` for a Flink inside the job server, or the job server's own.
EMBEDDED = ("[local]", "[auto]", "[collection]")
#: Default port of Flink's REST API.
_REST_PORT = 8081


def flink_master(options: PipelineOptions) -> Address | None:
    """Return the address of Flink's REST API; None if only the job server knows it.

    Raises:
      UsageError: `--flink_master` is no address.
    """
    given = str(options.view_as(FlinkRunnerOptions).flink_master).strip()
    if given in EMBEDDED:
        return None
    return Address.parse("--flink_master", given, 443 if given.startswith("https:") else _REST_PORT)


def flink_scheme(options: PipelineOptions) -> str:
    """Return the scheme of `--flink_master`, by default `http`."""
    given = str(options.view_as(FlinkRunnerOptions).flink_master).strip()
    return "https" if given.startswith("https:") else "http"


def refuse_other_version(master: Address, options: PipelineOptions) -> None:
    """Check that Flink has the version of Beam's own job server.

    Raises:
      UsageError: it has another version.
      FraudError: the address is not Flink's.
    """
    if options.view_as(FlinkRunnerOptions).flink_job_server_jar:
        # A custom jar, for an unknown version.
        return
    version = FlinkRest(master, flink_scheme(options)).version()
    wanted = options.view_as(FlinkRunnerOptions).flink_version
    if version.split(".")[:2] != str(wanted).split("."):
        minor = ".".join(version.split(".")[:2])
        raise UsageError(
            f"--flink_version {wanted}: {master} is Flink {version}; give --flink_version={minor}"
            if minor in FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS
            else f"--flink_master {master}: is Flink {version}, of which Beam has no job server",
            Code.RUNNER_MISMATCH,
        )
