"""Check that a job server answers, and find its runner."""

from __future__ import annotations

import grpc
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

from beam_fraud.errors import Code, FraudError
from beam_fraud.runners.address import PATIENCE, Address

#: Option that only one runner's job server declares, to the runner's name.
_TELLING = {"flink_master": "FlinkRunner", "spark_master": "SparkRunner"}


def runner_behind(endpoint: Address, seconds: float = PATIENCE) -> str | None:
    """Return the name of the job server's runner, or None if unknown.

    Raises:
      FraudError: no job server of Beam answers.
    """
    endpoint.refuse_silent("--job_endpoint", "job server", seconds)
    request = beam_job_api_pb2.DescribePipelineOptionsRequest()
    with grpc.insecure_channel(str(endpoint)) as channel:
        try:
            stub = beam_job_api_pb2_grpc.JobServiceStub(channel)
            options = stub.DescribePipelineOptions(request, timeout=seconds).options
        except grpc.RpcError as error:
            # The port accepts connections, so "unavailable" is a response of gRPC.
            raise FraudError(
                f"--job_endpoint {endpoint}: what answers there is no job server of Beam "
                f"({error.code().name}); give the port that its --job-port names",
                Code.RUNNER_MISMATCH,
            ) from None
    names = {option.name for option in options}
    return next((runner for name, runner in _TELLING.items() if name in names), None)
