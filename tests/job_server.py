"""Job servers that declare their options, as those of Flink and Spark do, and run no pipelines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

from deploy.flink.job_server_jar import patched_class_path


class _Servicer(beam_job_api_pb2_grpc.JobServiceServicer):
    def __init__(self, option: str) -> None:
        self._option = option

    def DescribePipelineOptions(self, request: Any, context: Any) -> Any:  # noqa: N802  its name
        descriptor = beam_job_api_pb2.PipelineOptionDescriptor(name=self._option)
        return beam_job_api_pb2.DescribePipelineOptionsResponse(options=[descriptor])


@contextmanager
def job_server(option: str) -> Iterator[str]:
    """Serve a job server that declares an option; yield its address."""
    server = grpc.server(ThreadPoolExecutor(2))
    beam_job_api_pb2_grpc.add_JobServiceServicer_to_server(_Servicer(option), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def job_server_jar(whose: str, directory: Path) -> Path:
    """Write a jar with bounded state ("ours"), without ("Beam's"), or a file that is no jar."""
    ours, *jars = patched_class_path().split(os.pathsep)
    jar = directory / "server.jar"
    if whose == "ours":
        jar = Path(ours)
    elif whose == "Beam's":
        jar = next(Path(each) for each in jars if "java-fn-execution-2.70" in each)
    else:
        jar.write_bytes(b"PK")
    return jar
