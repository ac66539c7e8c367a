"""Whether a pool of Python workers answers."""

from __future__ import annotations

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc

from beam_fraud.errors import FraudError
from beam_fraud.runners.address import PATIENCE, Address


def refuse_silent_pool(pool: Address) -> None:
    """See that a pool takes calls.

    Args:
      pool: as task managers are told it.

    Raises:
      FraudError: none answers.
    """
    pool.refuse_silent("--environment_config", "pool of workers")
    # A worker that is not there: nothing is stopped, and only a pool understands the question.
    request = beam_fn_api_pb2.StopWorkerRequest(worker_id="beam-fraud-doctor")
    with grpc.insecure_channel(str(pool)) as channel:
        stub = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
        try:
            stub.StopWorker(request, timeout=PATIENCE)
        except grpc.RpcError as error:
            raise FraudError(
                f"--environment_config {pool}: what answers there is no pool of workers "
                f"({error.code().name}); start one by beam-fraud workers, or mend the address"
            ) from None
