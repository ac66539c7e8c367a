"""Start and stop workers for remote runners, as Beam's external environments request."""

from __future__ import annotations

import logging
import multiprocessing
import os
import socket
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2 as fn_api
from apache_beam.portability.api import beam_fn_api_pb2_grpc as fn_service

from beam_fraud.errors import Code, FraudError
from beam_fraud.runners.workers.worker import nothing, serve

_LOG = logging.getLogger(__name__)
#: Time limit in seconds from the start of a worker to its connection; a tenth of a second is usual.
START_SECONDS = 90.0
#: Time limit of a released worker's own end in seconds.
LEAVE_SECONDS = 5.0
#: Maximum of concurrent requests: each waits for the start of its worker.
REQUESTS = 32
#: Numeric libraries start threads on import, and threads do not survive a fork.
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class WorkerPool(fn_service.BeamFnExternalWorkerPoolServicer):
    """Workers of this environment, each forked from a process that has imported everything.

    Workers end with the pool, however it ends.
    """

    def __init__(self, host: str, port: int) -> None:
        """Create a pool; `start` starts it.

        Args:
          host: name or address to listen on. The pool obeys anyone who can reach it.
          port: the port, or 0 for any.
        """
        self._host, self._port = host, port
        self._context = multiprocessing.get_context("forkserver")
        self._workers: dict[str, list[_Worker]] = defaultdict(list)
        self._lock = threading.Lock()
        self._stopped = False
        options = [("grpc.so_reuseport", 0)]
        self._server = grpc.server(ThreadPoolExecutor(REQUESTS), options=options)
        fn_service.add_BeamFnExternalWorkerPoolServicer_to_server(self, self._server)

    def start(self) -> str:
        """Import everything, then answer requests, including earlier ones.

        Returns:
          The address, "HOST:PORT".

        Raises:
          FraudError: workers cannot be started, or the port is taken.
        """
        endpoint = f"{self._host}:{self._port}"
        _refuse_taken(self._host, self._port)
        try:
            port = self._server.add_insecure_port(endpoint)
        except RuntimeError:
            raise FraudError(
                f"{endpoint}: can't listen there; is the port taken, or the host another one?",
                Code.PORT_UNUSABLE,
            ) from None
        for name in _ONE_THREAD:
            os.environ.setdefault(name, "1")
        self._context.set_forkserver_preload(["beam_fraud.runners.workers.preloaded"])
        first = self._context.Process(target=nothing)
        first.start()
        first.join()
        if first.exitcode != 0:
            raise FraudError(
                f"a worker can't be started: it ended with code {first.exitcode}",
                Code.PIPELINE_FAILED,
            )
        self._server.start()
        return f"{self._host}:{port}"

    def stop(self) -> None:
        """Stop listening and end every worker."""
        # With `grace=None` gRPC waits without a limit until every call has ended.
        ended = self._server.stop(grace=0.0)
        with self._lock:
            self._stopped = True
            left = [worker for workers in self._workers.values() for worker in workers]
        for worker in left:
            worker.process.terminate()
        for worker in left:
            worker.end_within(LEAVE_SECONDS)
        ended.wait(LEAVE_SECONDS)

    def StartWorker(self, request: Any, context: Any) -> Any:  # noqa: N802  # Beam's name
        """Start a worker; the response holds the reason of a failure."""
        name = request.worker_id
        reader, writer = self._context.Pipe(duplex=False)
        arguments = (request.SerializeToString(), writer)
        process = self._context.Process(target=serve, args=arguments, name=f"worker {name}")
        with self._lock:
            if self._stopped:
                # Nobody would end it, and the pool's process would wait for it.
                return fn_api.StartWorkerResponse(error="the pool of workers stops")
            process.start()
            worker = _Worker(process)
            self._workers[name].append(worker)
        writer.close()
        threading.Thread(target=self._see_to_its_end, args=(name, worker), daemon=True).start()
        try:
            problem = reader.recv() if reader.poll(START_SECONDS) else "it says nothing"
        except EOFError:
            worker.ended.wait(LEAVE_SECONDS)
            problem = f"it ended with code {process.exitcode}"
        if problem:
            _LOG.error("worker %s can't be started: %s", name, problem)
            return fn_api.StartWorkerResponse(error=f"worker {name} can't be started: {problem}")
        _LOG.info("worker %s is process %d", name, process.pid)
        return fn_api.StartWorkerResponse()

    def StopWorker(self, request: Any, context: Any) -> Any:  # noqa: N802  # Beam's name
        """Wait for a worker's end, and kill it after a time limit."""
        with self._lock:
            named = list(self._workers.get(request.worker_id, ()))
        if len(named) == 1:
            (worker,) = named
            if not worker.ended.wait(LEAVE_SECONDS):
                worker.process.terminate()
                worker.end_within(LEAVE_SECONDS)
        # Task managers that share a pool use the same names. Each worker ends when its own task
        # manager releases it.
        return fn_api.StopWorkerResponse()

    def _see_to_its_end(self, name: str, worker: _Worker) -> None:
        wait([worker.process.sentinel])
        with self._lock:
            # `start` of another process waits as well, and only the first waiter gets the status.
            worker.process.join()
            self._workers[name].remove(worker)
            if not self._workers[name]:
                del self._workers[name]
        code = worker.process.exitcode
        level = logging.INFO if code == 0 else logging.WARNING
        _LOG.log(level, "worker %s, process %d, ended with code %s", name, worker.process.pid, code)
        worker.ended.set()


class _Worker:
    """A worker process and the event of its end."""

    def __init__(self, process: BaseProcess) -> None:
        self.process = process
        self.ended = threading.Event()

    def end_within(self, seconds: float) -> None:
        """Wait for its end, and kill it after a time limit."""
        if not self.ended.wait(seconds):
            self.process.kill()
            self.ended.wait(seconds)


def _refuse_taken(host: str, port: int) -> None:
    """Check that the port is free, before gRPC prints lines of its own.

    Raises:
      FraudError: the port is taken, or the host is not this machine's.
    """
    try:
        addresses = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = addresses[0]
        with socket.socket(family, kind, protocol) as tried:
            # As gRPC does: a port released a moment ago is free.
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as error:
        raise FraudError(
            f"{host}:{port}: can't listen there ({error.strerror}); give another --port or --host",
            Code.PORT_UNUSABLE,
        ) from None
