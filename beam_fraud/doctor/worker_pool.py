"""Whether a pool of Python workers answers."""

from __future__ import annotations

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc

from beam_fraud.doctor.check import Check, ok, warning
from beam_fraud.errors import FraudError
from beam_fraud.runners.address import PATIENCE, Address

NAME = "worker pool"


def check_worker_pool(pool: Address, cluster: Address | None) -> Check:
    """Whether a pool takes calls.

    Args:
      pool: as task managers are told it.
      cluster: where these are, or None for this machine.

    Raises:
      FraudError: none answers.
    """
    if pool.here and cluster is not None and not cluster.here:
        return warning(
            NAME,
            f"{pool} is on each task manager's own machine, which is not seen from here",
            "see there that it runs",
        )
    pool.refuse_silent("--environment_config", "pool of workers")
    # A worker that is not there: nothing is stopped, and only a pool understands the question.
    request = beam_fn_api_pb2.StopWorkerRequest(worker_id="beam-fraud-doctor")
    with grpc.insecure_channel(str(pool)) as channel:
        stub = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
        try:
            stub.StopWorker(request, timeout=PATIENCE)
        except grpc.RpcError as error:
            raise FraudError(
                f"{pool}: what answers there is no pool of workers ({error.code().name}); start "
                f"one by beam-fraud workers --port={pool.port}"
            ) from None
    return ok(NAME, f"{pool} answers")
