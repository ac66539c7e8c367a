"""Job servers, which take pipelines: whether one answers, and of which runner it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

from beam_fraud.errors import FraudError
from beam_fraud.runners.address import PATIENCE, Address

#: An option that only the job server of a runner declares, to the runner's name.
_TELLING = {"flink_master": "FlinkRunner", "spark_master": "SparkRunner"}


def runner_behind(endpoint: Address, seconds: float = PATIENCE) -> str | None:
    """Name of the runner whose job server listens there, or None if it does not tell.

    Raises:
      FraudError: no job server of Beam answers.
    """
    request = beam_job_api_pb2.DescribePipelineOptionsRequest()
    with _channel(endpoint, seconds) as channel:
        try:
            stub = beam_job_api_pb2_grpc.JobServiceStub(channel)
            options = stub.DescribePipelineOptions(request, timeout=seconds).options
        except grpc.RpcError as error:
            raise FraudError(
                f"--job_endpoint {endpoint}: what answers there is no job server of Beam "
                f"({error.code().name}); give the port that its --job-port names"
            ) from None
    names = {option.name for option in options}
    return next((runner for name, runner in _TELLING.items() if name in names), None)


@contextmanager
def _channel(endpoint: Address, seconds: float) -> Iterator[grpc.Channel]:
    endpoint.refuse_silent("--job_endpoint", "job server", seconds)
    channel = grpc.insecure_channel(str(endpoint))
    try:
        grpc.channel_ready_future(channel).result(timeout=seconds)
        yield channel
    except grpc.FutureTimeoutError:
        raise FraudError(
            f"--job_endpoint {endpoint}: what answers there does not speak gRPC; give the port "
            "that the job server's --job-port names"
        ) from None
    finally:
        channel.close()
