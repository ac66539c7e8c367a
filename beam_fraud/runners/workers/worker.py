"""A worker: a process that does what one runner tells it to, until that runner lets it go."""

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

#: Seconds that a runner may take to say what it provides.
ANSWER_SECONDS = 60.0
#: What each job brings, and no worker has a use for.
_NOTES = "submission_environment_dependencies.txt"


def provided(endpoint: str, worker_id: str) -> Any:
    """Return what a runner provides for a worker: Beam's ProvisionInfo.

    Args:
      endpoint: Of its provision service, "HOST:PORT".
      worker_id: The name that the runner gave the worker.

    Raises:
      grpc.RpcError: It doesn't answer, or doesn't know the worker.
    """
    with grpc.insecure_channel(endpoint) as channel:
        answer = provision_service.ProvisionServiceStub(channel).GetProvisionInfo(
            provision.GetProvisionInfoRequest(),
            metadata=[("worker_id", worker_id)],
            timeout=ANSWER_SECONDS,
        )
    return answer.info


def environment(request: Any, info: Any) -> dict[str, str]:
    """Return the variables that Beam's containers start a worker with.

    Args:
      request: Beam's StartWorkerRequest; its endpoints serve where `info` has none.
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
    """Names of what a job brings for its workers, such as a package to install."""
    names = [_name(each) for each in info.dependencies]
    return sorted(name for name in names if name != _NOTES)


def _whole(value: Any) -> Any:
    """JSON values with 5 for each 5.0: the protocol knows no whole numbers, and Beam no others."""
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _name(dependency: Any) -> str:
    role = runner.ArtifactStagingToRolePayload.FromString(dependency.role_payload)
    return str(role.staged_name or dependency.type_urn)


def _text(*descriptors: Any) -> str:
    """Return the first that has an address, in the text form that Beam reads."""
    found = next((each for each in descriptors if each.url), descriptors[0])
    return str(text_format.MessageToString(found, as_one_line=True))


_LOG = logging.getLogger(__name__)


def serve(request: bytes, answer: Connection) -> None:
    """Be a worker to the end; the target of a process that was forked with nothing running.

    Args:
      request: Beam's StartWorkerRequest.
      answer: Is told "" when the worker has connected, or why it can't be one: a runner waits for
        ever for a worker that was started and never comes.
    """
    threading.Thread(target=_end_with_the_pool, daemon=True).start()
    # The pool ends its workers; a Ctrl-C that reaches both needs no traceback of each.
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
        # A runner that has all it wants closes its connections in any order.
        if error.code() != grpc.StatusCode.CANCELLED:
            raise SystemExit(f"the runner is gone: {error.code().name}") from None
    except BaseException:
        _LOG.critical("the worker failed", exc_info=True)
        raise
    finally:
        if logs:
            logs.close()


def nothing() -> None:
    """What a process does that shall only show that one can be forked."""


def _harness(wanted: Any) -> tuple[Any, Any]:
    """Return what sends the log to the runner, and what does the runner's work."""
    info = provided(wanted.provision_endpoint.url, wanted.worker_id)
    os.environ |= environment(wanted, info)
    logs, harness = worker_harness(wanted.worker_id, os.environ)
    if names := brought(info):
        _LOG.warning("the job brings %s, which a pool doesn't install", ", ".join(names))
    return logs, harness


def _end_of_thread(end: threading.ExceptHookArgs) -> None:
    # Beam's threads each end so when a runner hangs up, which the worker's own end tells.
    if not issubclass(end.exc_type, grpc.RpcError):
        threading.__excepthook__(end)


def _end_with_the_pool() -> None:
    pool = multiprocessing.parent_process()
    assert pool is not None
    pool.join()
    # Whatever killed the pool: without it nobody could stop this one.
    os._exit(1)
