"""Addresses of services of a runner, and checks that they answer."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

import grpc
from apache_beam.portability.api import (
    beam_fn_api_pb2,
    beam_fn_api_pb2_grpc,
    beam_job_api_pb2,
    beam_job_api_pb2_grpc,
)

from beam_fraud.errors import Code, FraudError, UsageError

#: Time limit of a connection in seconds.
PATIENCE = 10.0
#: Option that only one runner's job server declares, to the runner's name.
_TELLING = {"flink_master": "FlinkRunner", "spark_master": "SparkRunner"}


@dataclass(frozen=True)
class Address:
    """A host and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, option: str, value: str, port: int | None = None) -> Address:
        """Parse `HOST:PORT`, with or without a URL scheme.

        Args:
          option: name of the option, for the message.
          value: the value.
          port: default port; None to require one.

        Raises:
          UsageError: it has another form.
        """
        text = value.strip()
        try:
            parts = urlsplit(text if "://" in text else f"//{text}")
            host, found_port = parts.hostname, parts.port
        except ValueError:
            host, found_port = None, None
        if not host or (found_port or port) is None:
            raise UsageError(
                f"{option} {value}: an address is written HOST:PORT", Code.OPTION_VALUE
            )
        return cls(host, found_port or port or 0)

    @property
    def here(self) -> bool:
        """Return whether it belongs to this machine."""
        name = self.host.lower()
        own = {"localhost", "::1", "0.0.0.0", "::", socket.gethostname().lower()}
        return name in own or name.startswith("127.")

    def refuse_silent(self, option: str, what: str) -> None:
        """Check that the address accepts connections.

        Raises:
          FraudError: nothing accepts connections there.
        """
        try:
            socket.create_connection((self.host, self.port), PATIENCE).close()
        except OSError as error:
            why = error.strerror or str(error) or type(error).__name__
            raise FraudError(
                f"{option} {self}: no {what} answers there ({why}); start it, or correct the "
                "address",
                Code.RUNNER_SILENT,
            ) from None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def refuse_silent_pool(pool: Address) -> None:
    """Check that a worker pool answers.

    Args:
      pool: address that task managers use.

    Raises:
      FraudError: no pool answers.
    """
    pool.refuse_silent("--environment_config", "pool of workers")
    # Ask to stop an unknown worker: that stops nothing, and only a pool understands it.
    request = beam_fn_api_pb2.StopWorkerRequest(worker_id="beam-fraud-doctor")
    with grpc.insecure_channel(str(pool)) as channel:
        stub = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
        try:
            stub.StopWorker(request, timeout=PATIENCE)
        except grpc.RpcError as error:
            raise FraudError(
                f"--environment_config {pool}: what answers there is no pool of workers "
                f"({error.code().name}); start one by beam-fraud workers, or correct the address",
                Code.RUNNER_MISMATCH,
            ) from None


def runner_behind(endpoint: Address) -> str | None:
    """Return the name of the job server's runner, or None if unknown.

    Raises:
      FraudError: no job server of Beam answers.
    """
    endpoint.refuse_silent("--job_endpoint", "job server")
    request = beam_job_api_pb2.DescribePipelineOptionsRequest()
    with grpc.insecure_channel(str(endpoint)) as channel:
        try:
            stub = beam_job_api_pb2_grpc.JobServiceStub(channel)
            options = stub.DescribePipelineOptions(request, timeout=PATIENCE).options
        except grpc.RpcError as error:
            # The port accepts connections, so "unavailable" is a response of gRPC.
            raise FraudError(
                f"--job_endpoint {endpoint}: what answers there is no job server of Beam "
                f"({error.code().name}); give the port that its --job-port names",
                Code.RUNNER_MISMATCH,
            ) from None
    names = {option.name for option in options}
    return next((runner for name, runner in _TELLING.items() if name in names), None)
