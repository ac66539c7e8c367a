"""A stand-in for the Dataflow service on this machine: it stores requests and runs nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

from tests import google_stand_in
from tests.google_stand_in import PROJECT, GoogleStandIn, RefusedError

REGION = "europe-west1"
_PATH = re.compile(rf"/v1b3/projects/{PROJECT}/locations/{REGION}/jobs(?:/([^/:]+))?(?:/(\w+))?$")
#: For `--dataflow_endpoint`: Beam takes no port there, and speaks HTTP to sandboxes alone. Nobody
#: has this name: requests reach the stand-in because it is given as their proxy.
ENDPOINT = "http://dataflow-sandbox.invalid"
#: What a job ends as that is asked to be cancelled or drained.
_ENDS = {5: "JOB_STATE_CANCELLED", 7: "JOB_STATE_DRAINED"}
NOW = "2024-01-01T00:00:00Z"


@dataclass
class DataflowStandIn(GoogleStandIn):
    """The jobs of Dataflow, beside the objects of Cloud Storage."""

    #: The jobs that were made, as they came, by their ids.
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: What every job ends as.
    state: str = "JOB_STATE_DONE"
    #: What the service says of every job.
    messages: list[dict[str, str]] = field(default_factory=list)
    #: Counters of every job.
    counters: dict[str, int] = field(default_factory=dict)
    #: Called with a job, which ends after it; a failure of it fails the job.
    work: Callable[[dict[str, Any]], None] | None = None

    def service(self, method: str, path: str, query: dict[str, str], given: Any) -> Any:
        """Answer a request to the Dataflow API."""
        result = _PATH.search(path)
        if result is None:
            raise RefusedError(501, f"{method} {path} is not made")
        match (method, *result.groups()):
            case ("POST", None, None):
                return self._create(given)
            case ("GET", None, None):
                return {"jobs": list(self.jobs.values())}
            case ("GET", job, None):
                result = self._job(job)
                return {name: result[name] for name in ("id", "name", "type", "currentState")}
            case ("PUT", job, None):
                result = self._job(job)
                result["currentState"] = _ENDS[given["requestedState"]]
                return result
            case ("GET", job, "messages"):
                self._job(job)
                return {"jobMessages": self.messages}
            case ("GET", job, "metrics"):
                self._job(job)
                return {"metrics": self._metrics()}
        raise RefusedError(501, f"{method} {path} is not made")

    def _create(self, job: dict[str, Any]) -> dict[str, Any]:
        key = f"2024-01-01_00_00_00-{len(self.jobs) + 1}"
        message = {"id": key, "projectId": PROJECT, "location": REGION, "createTime": NOW}
        self.jobs[key] = {**job, **message, "currentState": "JOB_STATE_RUNNING"}
        # It asks this server itself, which answers one at a time.
        Thread(target=self._work, args=(self.jobs[key],), daemon=True).start()
        return {name: self.jobs[key][name] for name in (*message, "name", "clientRequestId")}

    def _job(self, key: str | None) -> dict[str, Any]:
        if key not in self.jobs:
            raise RefusedError(404, f"no job {key}")
        return self.jobs[key]

    def _work(self, job: dict[str, Any]) -> None:
        state = self.state
        try:
            if self.work is not None:
                self.work(job)
        except Exception as error:
            state = "JOB_STATE_FAILED"
            self.say("JOB_MESSAGE_ERROR", str(error))
        if state != "JOB_STATE_RUNNING":
            job["currentState"] = state

    def say(self, importance: str, text: str) -> None:
        """Add a message to every job."""
        number = str(len(self.messages))
        message = {"id": number, "time": NOW, "messageText": text, "messageImportance": importance}
        self.messages.append(message)

    def _metrics(self) -> list[dict[str, Any]]:
        """Return every counter twice, as the service does."""
        result = []
        for name, value in self.counters.items():
            for tentative in ({}, {"tentative": "true"}):
                context = {"namespace": "beam_fraud", "step": "s1", **tentative}
                described = {"origin": "user", "name": name, "context": context}
                result.append({"name": described, "scalar": value, "updateTime": NOW})
        return result


@contextmanager
def running(directory: Path) -> Iterator[tuple[DataflowStandIn, dict[str, str]]]:
    """Serve on a free port; yield the stand-in and the environment for its clients."""
    with google_stand_in.running(directory, DataflowStandIn()) as (stand_in, environment):
        yield stand_in, {**environment, "HTTP_PROXY": stand_in.url, "NO_PROXY": "127.0.0.1"}
