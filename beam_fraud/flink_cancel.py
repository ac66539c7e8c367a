"""A pipeline on a Flink cluster that ends there when it is cancelled here.

Beam's job server marks a cancelled pipeline as such and forgets it; on a cluster its job runs on,
keeps its slots and goes on writing. Flink itself has to be told, over its REST API.
"""

from __future__ import annotations

import uuid
from typing import Any

import requests
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
)
from apache_beam.runners.runner import PipelineResult

#: Seconds that an answer of Flink may take.
_SECONDS = 10.0


def name_of_own(options: PipelineOptions) -> str | None:
    """Give the job that is about to be submitted to `--flink_master` a name that no other has.

    Returns:
      The name; None without an address of a Flink, or where the call has chosen the name, by which
      another's job might be found.
    """
    cloud = options.view_as(GoogleCloudOptions)
    if _address(options) is None or cloud.job_name:
        return None
    cloud.job_name = f"beam-fraud-{uuid.uuid4().hex}"
    return str(cloud.job_name)


class CancelledOnFlink(PipelineResult):
    """What Beam knows of a pipeline, with a `cancel` that the cluster hears of."""

    def __init__(self, result: PipelineResult, options: PipelineOptions, name: str) -> None:
        """Put this around a result.

        Args:
          result: of the pipeline's start.
          options: Beam's, with `--flink_master`.
          name: of the job, its own.
        """
        super().__init__(result.state)
        self._result = result
        self._address = _address(options)
        self._name = name

    @property
    def state(self) -> str:
        """As Beam has it."""
        return str(self._result.state)

    def wait_until_finish(self, duration: int | None = None) -> str:
        """As Beam does."""
        return str(self._result.wait_until_finish(duration))

    def metrics(self) -> Any:
        """As Beam has them."""
        return self._result.metrics()

    def cancel(self) -> None:
        """End it, here first: the job server takes a job that Flink cancels for a failed one.

        Raises:
          OSError: Flink does not answer, or not as it should.
        """
        self._result.cancel()
        for job in self._ask("GET", "/jobs/overview")["jobs"]:
            if job["name"] == self._name and job["end-time"] < 0:
                self._ask("PATCH", f"/jobs/{job['jid']}?mode=cancel")

    def _ask(self, method: str, path: str) -> Any:
        answer = requests.request(method, f"{self._address}{path}", timeout=_SECONDS)
        answer.raise_for_status()
        return answer.json()


def _address(options: PipelineOptions) -> str | None:
    """The URL of Flink's REST API, if the call says where it is."""
    master = str(options.view_as(FlinkRunnerOptions).flink_master or "")
    if not master or master.startswith("["):
        return None
    return (master if "://" in master else f"http://{master}").rstrip("/")
