"""Beam's Flink job server with a Flink in the same process."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.flink.job_server_jar import patched_class_path
from deploy.ports import free_port, listens
from tests.requirements import need, need_job_server

#: Seconds that the job server may take until it listens.
START_SECONDS = 90.0
#: What Flink reaches into and Java has closed since version 16.
OPENED = ("lang", "lang.invoke", "lang.reflect", "net", "nio", "time", "util", "util.concurrent")


@contextmanager
def running_job_server(directory: Path, heap: str = "1g") -> Iterator[str]:
    """A job server for `--runner=PortableRunner --job_endpoint=`: "127.0.0.1:PORT".

    Args:
      directory: Where its artefacts and `flink.log` go.
      heap: Memory of the server and of its Flink, as Java writes it.
    """
    need_job_server()
    port = free_port()
    endpoint = f"127.0.0.1:{port}"
    with (directory / "flink.log").open("wb") as log:
        server = subprocess.Popen(
            [
                need("java"),
                f"-Xmx{heap}",
                *(f"--add-opens=java.base/java.{part}=ALL-UNNAMED" for part in OPENED),
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                *("-cp", patched_class_path()),
                "org.apache.beam.runners.flink.FlinkJobServerDriver",
                "--flink-master=[local]",
                "--job-host=127.0.0.1",
                f"--job-port={port}",
                f"--artifact-port={free_port()}",
                "--expansion-port=-1",
                f"--artifacts-dir={directory / 'artifacts'}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not listens(endpoint):
            message = f"see {log.name}"
            assert server.poll() is None, f"the job server ended: {message}"
            assert time.monotonic() < deadline, f"the job server doesn't listen: {message}"
            time.sleep(0.05)
        yield endpoint
    finally:
        # It holds nothing that an orderly end would save, and takes its time over one.
        server.kill()
        server.wait()
