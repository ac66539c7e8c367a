"""A worker process, which serves one runner until released."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2 as fn_api
from apache_beam.portability.api import beam_provision_api_pb2 as provision
from apache_beam.portability.api import beam_provision_api_pb2_grpc as provision_service
from apache_beam.portability.api import beam_runner_api_pb2 as runner
from google.protobuf import json_format, text_format

from beam_fraud.beam_internals import worker_harness
from beam_fraud.wording import first_line

#: Time limit of a runner's provision response in seconds.
ANSWER_SECONDS = 60.0
#: Artifacts of each job that no worker needs.
_NOTES = "submission_environment_dependencies.txt"


def provided(endpoint: str, worker_id: str) -> Any:
    """Return Beam's ProvisionInfo of a worker.

    Args:
      endpoint: address of the provision service, "HOST:PORT".
      worker_id: the runner's name for the worker.

    Raises:
      grpc.RpcError: it does not answer, or does not know the worker.
    """
    with grpc.insecure_channel(endpoint) as channel:
        answer = provision_service.ProvisionServiceStub(channel).GetProvisionInfo(
            provision.GetProvisionInfoRequest(),
            metadata=[("worker_id", worker_id)],
            timeout=ANSWER_SECONDS,
        )
    return answer.info


def environment(request: Any, info: Any) -> dict[str, str]:
    """Return the environment variables of a worker in Beam's containers.

    Args:
      request: Beam's StartWorkerRequest; its endpoints are defaults.
      info: Beam's ProvisionInfo.
    """
    variables = {
        "WORKER_ID": request.worker_id,
        "PIPELINE_OPTIONS": json.dumps(_whole(json_format.MessageToDict(info.pipeline_options))),
        "CONTROL_API_SERVICE_DESCRIPTOR": _text(info.control_endpoint, request.control_endpoint),
        "LOGGING_API_SERVICE_DESCRIPTOR": _text(info.logging_endpoint, request.logging_endpoint),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }
    if info.status_endpoint.url:
        variables["STATUS_API_SERVICE_DESCRIPTOR"] = _text(info.status_endpoint)
    return variables


def brought(info: Any) -> list[str]:
    """Return the names of a job's artifacts for workers, such as a package to install."""
    names = [_name(each) for each in info.dependencies]
    return sorted(name for name in names if name != _NOTES)


def _whole(value: Any) -> Any:
    """Convert 5.0 to 5 in JSON values: the protocol has no integers, and Beam requires them."""
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _name(dependency: Any) -> str:
    role = runner.ArtifactStagingToRolePayload.FromString(dependency.role_payload)
    return str(role.staged_name or dependency.type_urn)


def _text(*descriptors: Any) -> str:
    """Return the first descriptor with an address, in Beam's text form."""
    descriptor = next((each for each in descriptors if each.url), descriptors[0])
    return str(text_format.MessageToString(descriptor, as_one_line=True))


_LOG = logging.getLogger(__name__)


def serve(request: bytes, answer: Connection) -> None:
    """Run a worker to its end; the target of a forked process without threads.

    Args:
      request: Beam's StartWorkerRequest.
      answer: receives "" when the worker has connected, or the reason of a failure: a runner waits
        for ever for a started worker that never connects.
    """
    threading.Thread(target=_end_with_the_pool, daemon=True).start()
    # The pool ends its workers, so a Ctrl-C that reaches both must not print their tracebacks.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        logs, harness = _harness(fn_api.StartWorkerRequest.FromString(request))
    except grpc.RpcError as error:
        answer.send(f"the runner says nothing: {error.code().name}: {error.details()}")
        return
    except SystemExit:
        answer.send("Beam can't read the pipeline's options; the pool's log says which")
        raise
    except Exception as error:
        answer.send(f"{type(error).__name__}: {first_line(error)}")
        raise
    answer.send("")
    answer.close()
    threading.excepthook = _end_of_thread
    try:
        harness.run()
    except grpc.RpcError as error:
        # A finished runner closes its connections in any order.
        if error.code() != grpc.StatusCode.CANCELLED:
            raise SystemExit(f"the runner is gone: {error.code().name}") from None
    except BaseException:
        _LOG.critical("the worker failed", exc_info=True)
        raise
    finally:
        if logs:
            logs.close()


def nothing() -> None:
    """Do nothing: the target of a process that tests forking."""


def _harness(request: Any) -> tuple[Any, Any]:
    """Return the log handler to the runner, and the harness."""
    info = provided(request.provision_endpoint.url, request.worker_id)
    os.environ |= environment(request, info)
    logs, harness = worker_harness(request.worker_id, os.environ)
    if names := brought(info):
        _LOG.warning("the job brings %s, which a pool doesn't install", ", ".join(names))
    return logs, harness


def _end_of_thread(end: threading.ExceptHookArgs) -> None:
    # Beam's threads end so when a runner disconnects; the worker's own end reports it.
    if not issubclass(end.exc_type, grpc.RpcError):
        threading.__excepthook__(end)


def _end_with_the_pool() -> None:
    pool = multiprocessing.parent_process()
    assert pool is not None
    pool.join()
    # End with the pool: only the pool can stop this worker.
    os._exit(1)
