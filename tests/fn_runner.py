"""Beam's services for a worker, without any work."""

from __future__ import annotations

import queue
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc
from apache_beam.portability.api import beam_fn_api_pb2 as fn_api
from apache_beam.portability.api import beam_fn_api_pb2_grpc as fn_service
from apache_beam.portability.api import beam_provision_api_pb2 as provision
from apache_beam.portability.api import beam_provision_api_pb2_grpc as provision_service
from google.protobuf import json_format

#: Seconds that anything here may take.
SECONDS = 120.0


class FnRunner(
    provision_service.ProvisionServiceServicer,
    fn_service.BeamFnControlServicer,
    fn_service.BeamFnLoggingServicer,
):
    """Accepts every worker and records connections and logs."""

    def __init__(self, options: dict[str, object] | None = None, job_brings: str = "") -> None:
        self._info = provision.ProvisionInfo(runner_capabilities=["some", "more"])
        json_format.ParseDict(options or {}, self._info.pipeline_options)
        if job_brings:
            self._info.dependencies.add(type_urn=job_brings)
        #: Ids of workers that have connected.
        self.connected: list[str] = []
        #: What each worker has logged.
        self.logged: dict[str, list[str]] = defaultdict(list)
        self._ends: dict[str, queue.Queue[None]] = defaultdict(queue.Queue)
        self._server = grpc.server(ThreadPoolExecutor(16))
        provision_service.add_ProvisionServiceServicer_to_server(self, self._server)
        fn_service.add_BeamFnControlServicer_to_server(self, self._server)
        fn_service.add_BeamFnLoggingServicer_to_server(self, self._server)
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for name in self.connected:
            self.let_go(name)
        self.hang_up()

    def request(self, worker_id: str) -> Any:
        """Return the request for a worker from a pool."""
        expected = fn_api.StartWorkerRequest(worker_id=worker_id)
        for name in ("control", "logging", "artifact", "provision"):
            getattr(expected, f"{name}_endpoint").url = self.endpoint
        return expected

    def let_go(self, worker_id: str) -> None:
        """End the work of a worker."""
        self._ends[worker_id].put(None)

    def hang_up(self) -> None:
        """Break every connection."""
        self._server.stop(None).wait()

    def said(self, worker_id: str, part: str) -> bool:
        """Whether a worker has logged a text."""
        return any(part in line for line in self.logged[worker_id])

    def GetProvisionInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        assert dict(context.invocation_metadata())["worker_id"]
        return provision.GetProvisionInfoResponse(info=self._info)

    def Control(self, responses: Iterator[Any], context: Any) -> Iterator[Any]:  # noqa: N802
        name = dict(context.invocation_metadata())["worker_id"]
        # A worker may connect while the runner hangs up: that one is not released.
        context.add_callback(lambda: self._ends[name].put(None))
        self.connected.append(name)
        self._ends[name].get()
        yield from ()

    def Logging(self, lines: Iterator[Any], context: Any) -> Iterator[Any]:  # noqa: N802
        name = dict(context.invocation_metadata())["worker_id"]
        for several in lines:
            self.logged[name] += [entry.message for entry in several.log_entries]
        yield from ()


def until(true: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
