"""A stand-in for the Dataflow service on this machine: it keeps what is sent, and runs nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import google_stand_in
from tests.google_stand_in import PROJECT, GoogleStandIn, RefusedError

REGION = "europe-west1"
_PATH = re.compile(rf"/v1b3/projects/{PROJECT}/locations/{REGION}/jobs(?:/([^/:]+))?(?:/(\w+))?$")
#: For `--dataflow_endpoint`: Beam takes no port there, and speaks HTTP to sandboxes alone. Nobody has
#: this name: requests reach the stand-in because it is given as their proxy.
ENDPOINT = "http://dataflow-sandbox.invalid"
NOW = "2024-01-01T00:00:00Z"


@dataclass
class DataflowStandIn(GoogleStandIn):
    """The jobs, beside what Cloud Storage holds."""

    #: The jobs that were made, as they came, by their ids.
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: What every job ends as.
    state: str = "JOB_STATE_DONE"
    #: What the service says of every job.
    messages: list[dict[str, str]] = field(default_factory=list)
    #: Counters of every job.
    counters: dict[str, int] = field(default_factory=dict)
    #: Called with a job before it is said to have ended.
    work: Callable[[dict[str, Any]], None] | None = None

    def service(self, method: str, path: str, query: dict[str, str], given: Any) -> Any:
        """The Dataflow API, as far as Beam asks of it."""
        found = _PATH.search(path)
        if found is None:
            raise RefusedError(501, f"{method} {path} is not made")
        match (method, *found.groups()):
            case ("POST", None, None):
                return self._create(given)
            case ("GET", None, None):
                return {"jobs": list(self.jobs.values())}
            case ("GET", job, None):
                return self._ended(self._job(job))
            case ("PUT", job, None):
                self._job(job)["requestedState"] = given["requestedState"]
                return self._job(job)
            case ("GET", job, "messages"):
                self._job(job)
                return {"jobMessages": self.messages}
            case ("GET", job, "metrics"):
                self._job(job)
                return {"metrics": [self._metric(*item) for item in self.counters.items()]}
        raise RefusedError(501, f"{method} {path} is not made")

    def _create(self, job: dict[str, Any]) -> dict[str, Any]:
        key = f"2024-01-01_00_00_00-{len(self.jobs) + 1}"
        told = {"id": key, "projectId": PROJECT, "location": REGION, "createTime": NOW}
        self.jobs[key] = {**job, **told, "currentState": "JOB_STATE_RUNNING"}
        return {name: self.jobs[key][name] for name in (*told, "name", "clientRequestId")}

    def _job(self, key: str | None) -> dict[str, Any]:
        if key not in self.jobs:
            raise RefusedError(404, f"no job {key}")
        return self.jobs[key]

    def _ended(self, job: dict[str, Any]) -> dict[str, Any]:
        if job["currentState"] == "JOB_STATE_RUNNING":
            if self.work is not None:
                self.work(job)
            job["currentState"] = self.state
        return {name: job[name] for name in ("id", "name", "type", "currentState")}

    def _metric(self, name: str, value: int) -> dict[str, Any]:
        context = {"namespace": "beam_fraud", "step": "s1"}
        described = {"origin": "user", "name": name, "context": context}
        return {"name": described, "scalar": value, "updateTime": NOW}


@contextmanager
def running(directory: Path) -> Iterator[tuple[DataflowStandIn, dict[str, str]]]:
    """Serve on a free port; yields what is held, and the environment that leads clients there."""
    with google_stand_in.running(directory, DataflowStandIn()) as (stand_in, environment):
        yield stand_in, {**environment, "HTTP_PROXY": stand_in.url, "NO_PROXY": "127.0.0.1"}
