"""Check the environment in which a job server starts Python workers."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Literal

from apache_beam.options.pipeline_options import (
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    SparkRunnerOptions,
)

from beam_fraud.errors import Code, UsageError
from beam_fraud.runners.address import Address
from beam_fraud.runners.flink.rest import flink_of
from beam_fraud.runners.runner import Runner

Kind = Literal["DOCKER", "PROCESS", "EXTERNAL", "LOOPBACK"]
_KINDS = ("DOCKER", "PROCESS", "EXTERNAL", "LOOPBACK")
#: Alternatives, for messages.
_POOL = "--environment_type=EXTERNAL --environment_config=HOST:PORT, a pool of workers"
#: Time limit of docker's response in seconds.
_DOCKER_SECONDS = 10.0


def environment_of(options: PipelineOptions, runner: Runner) -> Kind:
    """Return the runner's environment: the option's value or the default.

    Raises:
      UsageError: there is no such environment.
    """
    environment = options.view_as(PortableOptions).environment_type
    if not environment:
        embedded = runner.name == "FlinkRunner" and flink_of(options) is None
        spark = str(options.view_as(SparkRunnerOptions).spark_master_url)
        embedded |= runner.name == "SparkRunner" and spark.startswith("local")
        return "LOOPBACK" if embedded or runner.name == "PrismRunner" else "DOCKER"
    name = str(environment).removeprefix("beam:env:").partition(":")[0].upper()
    for kind in _KINDS:
        if name == kind:
            return kind  # type: ignore[return-value]
    raise UsageError(
        f"--environment_type {environment}: must be one of {', '.join(_KINDS)}", Code.OPTION_VALUE
    )


def worker_pool(options: PipelineOptions) -> Address:
    """Return the address of the worker pool.

    Raises:
      UsageError: it is not set, or no address.
    """
    portable = options.view_as(PortableOptions)
    address = portable.environment_config
    option = "--environment_config"
    if address and address.lstrip().startswith("{"):
        try:
            address = json.loads(address).get("url")
        except (ValueError, AttributeError):
            raise UsageError(
                f"{option} {address}: is no JSON object", Code.ENVIRONMENT_INVALID
            ) from None
    elif not address:
        option = "--environment_options"
        address = portable.lookup_environment_option("external_service_address")
    if not address:
        raise UsageError(
            "--environment_type EXTERNAL: say where the pool of workers listens, as in "
            "--environment_config=127.0.0.1:50000",
            Code.ENVIRONMENT_INVALID,
        )
    return Address.parse(option, address)


def refuse_environment(
    options: PipelineOptions, runner: Runner, *, cluster: Address | None
) -> None:
    """Check that workers with this package can be started.

    Args:
      options: Beam's options.
      runner: a runner with a job server.
      cluster: address of the cluster; None for this machine.

    Raises:
      UsageError: they cannot be started.
    """
    kind = environment_of(options, runner)
    portable = options.view_as(PortableOptions)
    if kind == "EXTERNAL":
        worker_pool(options)
    elif kind == "PROCESS":
        command = portable.lookup_environment_option("process_command")
        if not (portable.environment_config or command):
            raise UsageError(
                "--environment_type PROCESS: say which program starts a worker, as in "
                """--environment_config='{"command": "/opt/apache/beam/boot"}'""",
                Code.ENVIRONMENT_INVALID,
            )
    elif kind == "LOOPBACK":
        if cluster is not None and not cluster.here:
            raise UsageError(
                f"--environment_type LOOPBACK: workers would run in this process, which task "
                f"managers at {cluster} do not reach; give {_POOL}",
                Code.ENVIRONMENT_INVALID,
            )
    else:
        _refuse_docker(options, cluster)


def _refuse_docker(options: PipelineOptions, cluster: Address | None) -> None:
    portable, setup = options.view_as(PortableOptions), options.view_as(SetupOptions)
    image = portable.environment_config or portable.lookup_environment_option(
        "docker_container_image"
    )
    brings = (setup.setup_file, setup.requirements_file, setup.extra_packages)
    chosen = portable.environment_type or "not given, so DOCKER"
    near = cluster is None or cluster.here
    here = ", or LOOPBACK: workers in this process" if near else ""
    if not image and not setup.prebuild_sdk_container_engine and not any(brings):
        raise UsageError(
            f"--environment_type {chosen}: Beam's own image has no beam-fraud; give "
            f"--environment_config=IMAGE that has it, or {_POOL}{here}",
            Code.ENVIRONMENT_INVALID,
        )
    if near and not _docker_answers():
        raise UsageError(
            f"--environment_type {chosen}: docker does not answer on this machine; start it, or "
            f"give {_POOL}{here}",
            Code.ENVIRONMENT_INVALID,
        )


def _docker_answers() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        done = subprocess.run(
            [docker, "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            timeout=_DOCKER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
