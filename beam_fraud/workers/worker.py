"""A worker: a process that does what one runner tells it to, until that runner lets it go."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2 as fn_api
from apache_beam.runners.worker import sdk_worker_main
from apache_beam.runners.worker.worker_id_interceptor import WorkerIdInterceptor

from beam_fraud.workers.provision import brought, environment, provided

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
        answer.send(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
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
    """What sends the log to the runner, and what does the runner's work."""
    info = provided(wanted.provision_endpoint.url, wanted.worker_id)
    # Beam reads it when it is imported, which was before there was a worker.
    WorkerIdInterceptor._worker_id = wanted.worker_id
    os.environ |= environment(wanted, info)
    logs, harness, _ = sdk_worker_main.create_harness(os.environ)
    # Of this one Beam takes care when it gives a worker up.
    sdk_worker_main._FN_LOG_HANDLER = logs
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
