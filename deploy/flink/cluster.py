"""A Flink cluster on this machine for Beam's pipelines, without docker.

python -m deploy.flink.cluster --data DIR [--slots 2] [--task-managers 1] [--rest-port 8081]

A job manager, task managers, Beam's job server, and a pool of Python workers of this environment.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from beam_fraud.errors import Code, FraudError
from deploy.data_directory import held
from deploy.flink.job_server_jar import patched_class_path
from deploy.java import class_path, program
from deploy.ports import count, free_port, is_free, listens, port
from deploy.process import ServerProcess
from deploy.stopped import until_stopped

HERE = Path(__file__).parent
#: Configuration that the cluster shares with the containers.
CONFIGURATION = HERE / "config/flink-conf.yaml"
#: Seconds that each part may take until it answers; five are usual.
START_SECONDS = 90.0
_CLUSTER, _JOB_SERVER = HERE / "cluster.xml", HERE / "JobServer.java"
_MEMORY_TOOL = "org.apache.flink.runtime.util.bash.BashJavaUtils"
_MEMORY_MARK = "BASH_JAVA_UTILS_EXEC_RESULT:"
_JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
_TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"


class FlinkCluster:
    """A cluster, its workers and its state.

    Only this machine reaches it. As a context manager it runs inside the `with`.
    """

    #: Flink's REST address and page, for `--flink_master`: "127.0.0.1:PORT".
    rest: str
    #: Beam's job server, for `--job_endpoint`.
    job_endpoint: str
    #: The pool of Python workers, for `--environment_config`.
    worker_pool: str

    def __init__(
        self,
        data: Path,
        *,
        slots: int = 2,
        task_managers: int = 1,
        rest_port: int | None = None,
        job_port: int | None = None,
        pool_port: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Describe a cluster; `start` starts it.

        Args:
          data: Directory of checkpoints, savepoints, artefacts and logs; made if absent.
          slots: Parts of a job that a task manager runs side by side.
          task_managers: How many there are.
          rest_port: Port of Flink's REST API and page; a free one by default.
          job_port: Port of Beam's job server; a free one by default.
          pool_port: Port of the pool of workers; a free one by default.
          settings: More of Flink's configuration, over that of the file beside this one.
        """
        self.data = data.absolute()
        self._slots = slots
        self._task_managers = task_managers
        ports = [port or free_port() for port in (rest_port, job_port, pool_port)]
        self.rest, self.job_endpoint, self.worker_pool = (f"127.0.0.1:{port}" for port in ports)
        self._settings = dict(settings or {})
        #: The parts by name, in the order in which they start.
        self.parts: dict[str, ServerProcess] = {}

    @property
    def beam_options(self) -> list[str]:
        """Return the options that run a command of `beam-fraud` on the cluster."""
        return [
            "--runner=PortableRunner",
            f"--job_endpoint={self.job_endpoint}",
            f"--flink_master={self.rest}",
            "--environment_type=EXTERNAL",
            f"--environment_config={self.worker_pool}",
        ]

    @property
    def checkpoints(self) -> Path:
        return self.data / "checkpoints"

    @property
    def savepoints(self) -> Path:
        """Directory of the savepoints."""
        return self.data / "savepoints"

    def start(self) -> None:
        """Start every part and wait until all respond.

        Raises:
          FraudError: Java or Maven is missing, a port is taken, or a part ends or stays silent.
        """
        assert not self.parts, "the cluster runs already"
        for endpoint in (self.rest, self.worker_pool, self.job_endpoint):
            _refuse_taken(endpoint)
        self._write_configuration()
        rpc = free_port()
        try:
            self._start("job manager", self._java(_JOB_MANAGER, rpc), self.rest)
            for number in range(1, self._task_managers + 1):
                self.start_task_manager(number, rpc)
            self._start("worker pool", self._pool(), self.worker_pool)
            self._start("job server", self._server(), self.job_endpoint)
            self.wait_for_slots(self._slots * self._task_managers)
        except BaseException:
            self.kill()
            raise

    def start_task_manager(self, number: int, rpc: int | None = None) -> None:
        """Start a task manager, or restart it."""
        name = f"task manager {number}"
        if name in self.parts:
            self.parts[name].start()
        else:
            assert rpc is not None
            more = {"taskmanager.resource-id": f"task-manager-{number}"}
            self._start(name, self._java(_TASK_MANAGER, rpc, more))

    def wait_for_slots(self, slots: int) -> None:
        """Wait until the cluster has so many slots, free or not.

        Raises:
          FraudError: A part ended, or they don't come.
        """
        self.parts["job manager"].wait_until(lambda: self._slots_there() >= slots, START_SECONDS)

    def stop(self) -> None:
        """Stop every part in order."""
        for part in reversed(list(self.parts.values())):
            part.stop()
        self.parts = {}

    def kill(self) -> None:
        """Kill every part: none has anything to save."""
        for part in reversed(list(self.parts.values())):
            part.kill()
        self.parts = {}

    def wait(self) -> None:
        """Wait until a part ends.

        Raises:
          FraudError: It ended before it was stopped.
        """
        while True:
            for part in self.parts.values():
                part.refuse_ended()
            time.sleep(0.5)

    def get(self, path: str) -> Any:
        """Return the response of Flink's REST API to a path such as `/jobs/overview`.

        Raises:
          OSError: It doesn't answer, or with an error.
        """
        with urllib.request.urlopen(f"http://{self.rest}{path}", timeout=10) as answer:
            return json.load(answer)

    def jobs(self, *states: str) -> list[str]:
        """Return ids of the jobs in any of the states, such as RUNNING; all jobs without states."""
        listed = self.get("/jobs")["jobs"]
        return [job["id"] for job in listed if not states or job["status"] in states]

    def stop_with_savepoint(self, job: str) -> str:
        """Stop a job with a savepoint; return the value of `--savepoint_path`.

        Raises:
          FraudError: Flink could not.
        """
        where = {"targetDirectory": self.savepoints.as_uri(), "drain": False}
        request = self._post(f"/jobs/{job}/stop", where)["request-id"]
        while True:
            status = self.get(f"/jobs/{job}/savepoints/{request}")
            if status["status"]["id"] == "COMPLETED":
                break
            time.sleep(0.1)
        operation = status["operation"]
        if "location" not in operation:
            cause = str(operation.get("failure-cause", {}).get("class", "it does not say why"))
            raise FraudError(
                f"{self.rest}: job {job} left no savepoint: {cause}", Code.SAVEPOINT_UNUSABLE
            )
        return str(operation["location"])

    def _post(self, path: str, body: object) -> Any:
        request = urllib.request.Request(
            f"http://{self.rest}{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _start(
        self,
        name: str,
        command: list[str],
        endpoint: str | None = None,
    ) -> None:
        if endpoint is not None:
            _refuse_taken(endpoint)
        log = self.data / f"{name.replace(' ', '-')}.log"
        # In as many arenas as glibc likes, what RocksDB frees is kept for each thread: a busy task
        # manager grows by 25 MB a minute. Flink's image has jemalloc instead.
        part = ServerProcess(name, command, log, os.environ | {"MALLOC_ARENA_MAX": "2"})
        part.start()
        self.parts[name] = part
        if endpoint is not None:
            part.wait_until(lambda: listens(endpoint), START_SECONDS)

    def _write_configuration(self) -> None:
        directory = self.data / "config"
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copy(CONFIGURATION, directory)

    def _java(self, entry: str, rpc: int, more: Mapping[str, str] | None = None) -> list[str]:
        """Return a process of a part of Flink, with the memory of its configuration."""
        host, _, rest_port = self.rest.rpartition(":")
        settings = {
            "jobmanager.rpc.address": host,
            "jobmanager.rpc.port": str(rpc),
            "jobmanager.bind-host": host,
            "taskmanager.host": host,
            "taskmanager.bind-host": host,
            "rest.address": host,
            "rest.bind-address": host,
            "rest.port": rest_port,
            "rest.bind-port": rest_port,
            "taskmanager.numberOfTaskSlots": str(self._slots),
            "state.checkpoints.dir": self.checkpoints.as_uri(),
            "state.savepoints.dir": self.savepoints.as_uri(),
            "io.tmp.dirs": str(self.data / "temporary"),
            **self._settings,
            **(more or {}),
        }
        dynamic = [word for key, value in settings.items() for word in ("-D", f"{key}={value}")]
        arguments = ["--configDir", str(self.data / "config"), *dynamic]
        kind = "TM" if entry == _TASK_MANAGER else "JM"
        flags, computed = self._memory(kind, arguments)
        return [
            program("java"),
            *flags,
            *_java_flags("all"),
            *(_java_flags("taskmanager") if entry == _TASK_MANAGER else ()),
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=info",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            *("-cp", patched_class_path(_CLUSTER), entry, *arguments, *computed),
        ]

    def _memory(self, kind: str, dynamic: list[str]) -> tuple[list[str], list[str]]:
        """Return Java's flags and Flink's settings for the memory of a part."""
        (self.data / "temporary").mkdir(parents=True, exist_ok=True)
        tool = [program("java"), "-cp", class_path(_CLUSTER), _MEMORY_TOOL]
        command = [*tool, f"GET_{kind}_RESOURCE_PARAMS", *dynamic]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = done.stdout.splitlines()
        flags = [line.removeprefix(_MEMORY_MARK) for line in lines if _MEMORY_MARK in line]
        if len(flags) != 2:
            reason = (done.stderr.strip() or "it said nothing").splitlines()[-1]
            raise FraudError(
                f"{CONFIGURATION}: Flink finds no memory for itself: {reason}", Code.RUNNER_UNUSABLE
            )
        return flags[0].split(), flags[1].split()

    def _server(self) -> list[str]:
        port = self.job_endpoint.rpartition(":")[2]
        return [
            program("java"),
            "-Xmx1g",
            *_java_flags("all"),
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            *("-cp", patched_class_path(_CLUSTER), str(_JOB_SERVER)),
            f"--flink-master={self.rest}",
            "--job-host=127.0.0.1",
            f"--job-port={port}",
            f"--artifact-port={free_port()}",
            "--expansion-port=-1",
            f"--artifacts-dir={self.data / 'artifacts'}",
        ]

    def _pool(self) -> list[str]:
        port = self.worker_pool.rpartition(":")[2]
        return [sys.executable, "-m", "beam_fraud", "workers", f"--port={port}"]

    def _slots_there(self) -> int:
        try:
            return int(self.get("/overview")["slots-total"])
        except OSError:
            return 0


def _refuse_taken(endpoint: str) -> None:
    if not is_free(int(endpoint.rpartition(":")[2])):
        raise FraudError(
            f"{endpoint}: something listens there already; stop it or choose another port",
            Code.PORT_UNUSABLE,
        )


def _java_flags(part: str) -> list[str]:
    """Return Java's flags of the configuration for `all` parts or for one."""
    key = f"env.java.opts.{part}:"
    for line in CONFIGURATION.read_text("utf-8").splitlines():
        if line.startswith(key):
            return line.removeprefix(key).split()
    return []


def main() -> int:
    """Run a cluster until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description="Run a Flink cluster to try pipelines out on.")
    parser.add_argument("--data", type=Path, required=True, help="directory of its state and logs")
    parser.add_argument("--slots", type=count, default=2, help="slots of a task manager")
    parser.add_argument("--task-managers", type=count, default=1, help="how many there are")
    parser.add_argument("--rest-port", type=port, default=8081, help="of Flink's API and page")
    parser.add_argument("--job-port", type=port, default=8099, help="of Beam's job server")
    parser.add_argument("--pool-port", type=port, default=50000, help="of the Python workers")
    options = parser.parse_args()

    def serve() -> None:
        cluster = FlinkCluster(
            options.data,
            slots=options.slots,
            task_managers=options.task_managers,
            rest_port=options.rest_port,
            job_port=options.job_port,
            pool_port=options.pool_port,
        )
        beside = [
            f"--parallelism={options.slots * options.task_managers}",
            f"--sdk_worker_parallelism={options.slots}",
        ]
        with held(options.data):
            print(f"starting Flink; its logs are in {cluster.data}", file=sys.stderr)
            with cluster:
                print(f"Flink answers at http://{cluster.rest}; Ctrl-C stops it", file=sys.stderr)
                print(f"submit with {' '.join(cluster.beam_options + beside)}", file=sys.stderr)
                cluster.wait()

    return until_stopped(serve)


if __name__ == "__main__":
    sys.exit(main())
