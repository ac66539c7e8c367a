"""Inspect and run a job that was sent to the stand-in for Dataflow."""

from __future__ import annotations

from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns, python_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from tests.dataflow_stand_in import DataflowStandIn


def staged_graph(held: DataflowStandIn, job: dict[str, Any]) -> beam_runner_api_pb2.Pipeline:
    """Return the graph to which the job's description points."""
    place = job["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
    return beam_runner_api_pb2.Pipeline.FromString(held.objects[place.removeprefix("gs://")])


def steps(graph: beam_runner_api_pb2.Pipeline) -> set[str]:
    """Return the names of the outermost steps."""
    return {
        transform.unique_name.split("/")[0]
        for transform in graph.components.transforms.values()
        if not transform.unique_name.startswith("ref_")
    }


def run_staged(held: DataflowStandIn, job: dict[str, Any]) -> None:
    """Run the staged graph in this process; return its counters."""
    graph = staged_graph(held, job)
    for environment in graph.components.environments.values():
        assert environment.urn == common_urns.environments.DOCKER.urn
        environment.urn = python_urns.EMBEDDED_PYTHON
        environment.payload = b""
        del environment.dependencies[:]
    result = FnApiRunner().run_via_runner_api(graph, PipelineOptions([]))
    assert result.wait_until_finish() == "DONE"
    for counter in result.metrics().query()["counters"]:
        name = counter.key.metric.name
        if counter.key.metric.namespace == "beam_fraud":
            held.counters[name] = held.counters.get(name, 0) + counter.committed


def requirements(graph: beam_runner_api_pb2.Pipeline) -> set[str]:
    """Return the requirements that the graph declares."""
    return set(graph.requirements)
