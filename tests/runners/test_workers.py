"""A pool of workers starts and stops requested workers and leaves none behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2 as fn_api
from apache_beam.portability.api import beam_fn_api_pb2_grpc as fn_service

from beam_fraud.errors import Code
from beam_fraud.runners.workers.pool import WorkerPool
from deploy.ports import free_port, listens
from tests.failing import fails
from tests.fn_runner import SECONDS, FnRunner, until

#: What the pool says when a worker is there, and when it has ended.
STARTED = re.compile(r"worker (\S+) is process (\d+)")


class Pool:
    """The command's process and its output."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.endpoint = f"127.0.0.1:{free_port()}"
        port = self.endpoint.rpartition(":")[2]
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "beam_fraud", "workers", f"--port={port}"],
                stdout=file,
                stderr=file,
                start_new_session=True,
                env={**os.environ, "PYTHONFAULTHANDLER": "1"},
            )
        until(lambda: "listens at" in self.said or self.process.poll() is not None)
        self._channel = grpc.insecure_channel(self.endpoint)
        self._stub = fn_service.BeamFnExternalWorkerPoolStub(self._channel)

    @property
    def said(self) -> str:
        return self._log.read_text("utf-8")

    def start_worker(self, request: Any) -> str:
        return str(self._stub.StartWorker(request, timeout=SECONDS).error)

    def stop_worker(self, name: str) -> None:
        self._stub.StopWorker(fn_api.StopWorkerRequest(worker_id=name), timeout=SECONDS)

    def pid(self, name: str) -> int:
        return {worker: int(pid) for worker, pid in STARTED.findall(self.said)}[name]

    def wait(self) -> int:
        """Wait for the end; return the exit code."""
        try:
            return self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            # It writes down what every thread does.
            self.process.send_signal(signal.SIGABRT)
            self.process.wait()
            raise AssertionError(f"the pool does not end: {self.said}") from None

    def close(self) -> None:
        self._channel.close()
        self.process.kill()
        self.process.wait()


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextmanager
def running(directory: Path) -> Iterator[Pool]:
    pool = Pool(directory / "pool.log")
    try:
        yield pool
    finally:
        pool.close()


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with running(tmp_path_factory.mktemp("pool")) as one:
        yield one


@pytest.fixture
def runner() -> Iterator[FnRunner]:
    options = {"beam:option:max_cache_memory_usage_mb:v1": 5}
    options |= {"beam:option:experiments:v1": ["data_buffer_time_limit_ms=20"]}
    with FnRunner(options, job_brings="beam:artifact:type:file:v1") as one:
        yield one


def test_a_worker_connects_with_the_options_of_the_pipeline(pool: Pool, runner: FnRunner) -> None:
    assert pool.start_worker(runner.request("with-options")) == ""
    until(lambda: runner.connected == ["with-options"])
    until(lambda: runner.said("with-options", f"state cache with size {5 << 20}"))
    assert runner.said("with-options", "data_buffer_time_limit_ms=20")


def test_a_worker_is_a_fork_of_the_preloaded_process(pool: Pool, runner: FnRunner) -> None:
    pool.start_worker(runner.request("forked"))
    command = Path(f"/proc/{pool.pid('forked')}/cmdline").read_bytes().decode().split("\0")
    assert command[0] == sys.executable
    assert "forkserver" in " ".join(command)


def test_a_worker_ends_cleanly_when_its_runner_releases_it(pool: Pool, runner: FnRunner) -> None:
    pool.start_worker(runner.request("let-go"))
    until(lambda: "let-go" in runner.connected)
    runner.let_go("let-go")
    pool.stop_worker("let-go")
    assert not lives(pool.pid("let-go"))
    until(lambda: f"worker let-go, process {pool.pid('let-go')}, ended with code 0" in pool.said)


def test_a_lost_runner_is_one_line(pool: Pool) -> None:
    with FnRunner() as runner:
        pool.start_worker(runner.request("left-alone"))
        until(lambda: "left-alone" in runner.connected)
        runner.hang_up()
    pid = pool.pid("left-alone")
    until(lambda: f"worker left-alone, process {pid}, ended with code" in pool.said)
    assert "Traceback" not in pool.said


def test_the_end_of_a_dead_worker_is_logged(pool: Pool, runner: FnRunner) -> None:
    pool.start_worker(runner.request("killed"))
    pid = pool.pid("killed")
    os.kill(pid, signal.SIGKILL)
    line = f"warning beam_fraud.runners.workers.pool: worker killed, process {pid}"
    until(lambda: line in pool.said)
    assert f"worker killed, process {pid}, ended with code -9" in pool.said
    pool.stop_worker("killed")


def test_the_runner_gets_the_reason_of_a_worker_that_cannot_start(
    pool: Pool, runner: FnRunner
) -> None:
    request = runner.request("lost")
    request.provision_endpoint.url = f"127.0.0.1:{free_port()}"
    problem = pool.start_worker(request)
    assert problem.startswith("worker lost can't be started: the runner says nothing: UNAVAILABLE")
    assert "\n" not in problem


def test_options_that_beam_refuses_are_reported(pool: Pool) -> None:
    with FnRunner({"beam:option:max_cache_memory_usage_mb:v1": "much"}) as runner:
        problem = pool.start_worker(runner.request("refused"))
    assert "Beam can't read the pipeline's options" in problem
    assert "invalid int value: 'much'" in pool.said


def test_runners_that_share_a_pool_may_use_the_same_names(pool: Pool, runner: FnRunner) -> None:
    with FnRunner() as other:
        pool.start_worker(runner.request("1-1"))
        mine = pool.pid("1-1")
        pool.start_worker(other.request("1-1"))
        until(lambda: runner.connected == other.connected == ["1-1"])
        other.let_go("1-1")
        pool.stop_worker("1-1")
        until(lambda: f"process {pool.pid('1-1')}, ended with code 0" in pool.said)
        assert lives(mine)


def test_packages_of_a_job_that_are_not_installed_are_reported(
    pool: Pool, runner: FnRunner
) -> None:
    pool.start_worker(runner.request("with-package"))
    brings = "the job brings beam:artifact:type:file:v1, which a pool"
    until(lambda: runner.said("with-package", brings))


def test_only_this_machine_reaches_it(pool: Pool) -> None:
    port = pool.endpoint.rpartition(":")[2]
    assert listens(pool.endpoint)
    assert not listens(f"127.0.0.2:{port}")


def test_a_port_in_use_is_an_error_of_one_line(
    pool: Pool, capfd: pytest.CaptureFixture[str]
) -> None:
    host, _, port = pool.endpoint.rpartition(":")
    with fails(Code.PORT_UNUSABLE, f"^{pool.endpoint}: "):
        WorkerPool(host, int(port)).start()
    # gRPC would have more to say.
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGKILL, -9)])
def test_no_worker_outlives_the_pool(
    number: signal.Signals, code: int, runner: FnRunner, tmp_path: Path
) -> None:
    with running(tmp_path) as pool:
        pool.start_worker(runner.request("last"))
        until(lambda: runner.connected == ["last"])
        pool.process.send_signal(number)
        assert pool.wait() == code
        pid = pool.pid("last")
        until(lambda: not lives(pid))


def test_a_pool_that_stops_starts_no_worker(runner: FnRunner) -> None:
    pool = WorkerPool("127.0.0.1", 0)
    pool.stop()
    assert "stops" in pool.StartWorker(runner.request("late"), None).error
