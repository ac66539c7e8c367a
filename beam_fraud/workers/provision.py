"""What a runner provides for a worker, as the environment that Beam's harness is started with."""

from __future__ import annotations

import json
from typing import Any

import grpc
from apache_beam.portability.api import beam_provision_api_pb2 as provision
from apache_beam.portability.api import beam_provision_api_pb2_grpc as provision_service
from apache_beam.portability.api import beam_runner_api_pb2 as runner
from google.protobuf import json_format, text_format

#: Seconds that a runner may take to say what it provides.
ANSWER_SECONDS = 60.0
#: What each job brings, and no worker has a use for.
_NOTES = "submission_environment_dependencies.txt"


def provided(endpoint: str, worker_id: str) -> Any:
    """What a runner provides for a worker: Beam's ProvisionInfo.

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
    """The variables that Beam's containers start a worker with.

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
    """The first that has an address, in the text form that Beam reads."""
    found = next((each for each in descriptors if each.url), descriptors[0])
    return str(text_format.MessageToString(found, as_one_line=True))
