"""A pipeline as a job of a Flink cluster, controlled by Flink's REST API.

Beam's job server marks a cancelled pipeline as such and forgets it; on a cluster, its job
continues, keeps its slots and writes on. It also does not report a job that fails and restarts,
which a cluster may repeat for ever.
"""

from __future__ import annotations

import logging
import re
import threading
import time
import uuid
from collections import Counter
from typing import Any

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)
from apache_beam.runners.runner import PipelineResult, PipelineState

from beam_fraud.errors import Code, FraudError, line_of
from beam_fraud.runners.flink.rest import flink_of

_LOG = logging.getLogger(__name__)
#: Maximum of failures of a bounded job, after which it is given up.
MOST_FAILURES = 4
#: Time limit of a savepoint in seconds.
_SAVEPOINT_SECONDS = 60.0
#: Seconds between two checks for failures.
_LOOK_SECONDS = 2.0
_OF_SAVEPOINTS = "Failed to rollback to checkpoint/savepoint "
_NO_SAVEPOINT = re.compile(r"Cannot find checkpoint or savepoint file/directory '([^']*)'")
#: Pattern of a task manager's error without a worker pool; a pool that answers gives its own
#: reason.
_ASKING_A_POOL = re.compile(r"StatusRuntimeException: (\w+: [^\n]*)")
_REFUSED = re.compile(r"Caused by: [^\n]*?((?:Connection refused|connection timed out)[^\n]*)")


def name_of_own(options: PipelineOptions) -> str | None:
    """Give the job to submit to `--flink_master` a unique name.

    Returns:
      The name; None without an address of Flink, or if the call names the job, because another job
      may have the same name.
    """
    cloud = options.view_as(GoogleCloudOptions)
    if flink_of(options) is None or cloud.job_name:
        return None
    cloud.job_name = f"beam-fraud-{uuid.uuid4().hex}"
    return str(cloud.job_name)


class FlinkJob(PipelineResult):
    """Beam's result of a pipeline, with a `cancel` that reaches the cluster.

    While a caller waits, each failure is logged, and a bounded job that fails `MOST_FAILURES` times
    is given up. A stream restarts as long as Flink restarts it.
    """

    def __init__(self, result: PipelineResult, options: PipelineOptions, name: str) -> None:
        """Wrap a result.

        Args:
          result: Beam's result of the start.
          options: Beam's options with `--flink_master`.
          name: unique name of the job.
        """
        flink = flink_of(options)
        assert flink is not None
        super().__init__(result.state)
        self._result = result
        self._options = options
        self._flink = flink
        self._name = name
        self._endless = bool(options.view_as(StandardOptions).streaming)
        self._final_failure = ""
        self._ends, self._savepoint_path = False, ""
        self._begun = False
        #: Phase of Flink before the job runs, or between two runs; "" while it runs.
        self.phase = ""

    @property
    def state(self) -> str:
        return str(self._result.state)

    def wait_until_finish(self, duration: int | None = None) -> str:
        """Wait for the end of the job.

        Raises:
          RuntimeError: it failed or was given up; the text holds the reason.
        """
        ended = threading.Event()
        threading.Thread(target=self._watch, args=(ended,), daemon=True).start()
        state = str(PipelineState.CANCELLED)
        try:
            state = str(self._result.wait_until_finish(duration))
        except Exception:
            # Beam only knows the pipeline as cancelled.
            if not self._final_failure:
                raise
        finally:
            ended.set()
            if self._endless:
                self._log_savepoint()
        if self._final_failure:
            raise RuntimeError(self._final_failure)
        return state

    def metrics(self) -> Any:
        return self._result.metrics()

    def cancel(self) -> None:
        """Cancel the job, here first: the job server treats a job that Flink cancels as failed.

        Raises:
          OSError: Flink does not answer, or with an error.
        """
        self._result.cancel()
        for job in self._running():
            self._flink.ask("PATCH", f"/jobs/{job}?mode=cancel")

    def _watch(self, ended: threading.Event) -> None:
        failed, last, reported = 0, -1, False
        while not ended.wait(_LOOK_SECONDS):
            try:
                for job in () if reported else self._running():
                    _LOG.info("Flink's job is %s, see %s/#/job/%s", job, self._flink, job)
                    reported = True
                self.phase = self._phase()
                failures = self._failures(after=last)
            except OSError:
                # The job manager restarts or is gone: the wait itself reports that.
                continue
            for when, failure in failures:
                failed, last = failed + 1, when
                if not self._endless and failed >= MOST_FAILURES:
                    self._give_up(failure)
                    return
                raised = RuntimeError(failure)
                why = str(flink_failure(self._options, raised) or line_of(raised))
                _LOG.warning("the job failed, and Flink starts it again: %s", why)

    def keep(self) -> None:
        """Take a savepoint of a stream before its sources are signalled to end.

        A later savepoint would contain ended sources, which read no more.
        """
        self._ends = True
        try:
            jobs = self._running()
            for job in jobs:
                self._savepoint_path = self._savepoint(job)
            if jobs:
                return
            error: object = "the job has not begun"
        except Exception as raised:
            error = raised
        if stands := self._restored():
            _LOG.warning(
                "Flink took no savepoint (%s); the earlier one is still valid: --savepoint_path=%s",
                error,
                stands,
            )
        else:
            _LOG.warning("Flink took no savepoint (%s): no stream can resume", error)

    def _restored(self) -> str:
        """Return the savepoint or checkpoint that the job started from, or ""."""
        try:
            for job in self._running():
                restored = self._flink.ask("GET", f"/jobs/{job}/checkpoints")["latest"].get(
                    "restored"
                )
                if restored and restored.get("external_path"):
                    return str(restored["external_path"])
        except (OSError, KeyError):
            # The call's own value is as good.
            pass
        return str(self._options.get_all_options(drop_default=True).get("savepoint_path", ""))

    def _phase(self) -> str:
        """Return what the tasks of a job that does not run wait for, or ""."""
        for job in self._running():
            details = self._flink.ask("GET", f"/jobs/{job}")
            tasks = Counter[str]()
            for vertex in details["vertices"]:
                tasks.update(vertex["tasks"])
            running = tasks["RUNNING"] + tasks["FINISHED"]
            if running == tasks.total():
                self._begun = True
                return ""
            shown = f"{running} of {tasks.total()} tasks run"
            if tasks["INITIALIZING"] and (restored := self._restored()):
                return f"Flink restores {restored} ({shown})"
            return f"Flink starts the job{' again' if self._begun else ''} ({shown})"
        return ""

    def _savepoint(self, job: str) -> str:
        """Take a savepoint and return its location.

        Raises:
          Exception: it failed; the text holds the reason.
        """
        path = f"/jobs/{job}/savepoints"
        request = self._flink.ask("POST", path, {"cancel-job": False})["request-id"]
        deadline = time.monotonic() + _SAVEPOINT_SECONDS
        while time.monotonic() < deadline:
            state = self._flink.ask("GET", f"{path}/{request}")
            if state["status"]["id"] == "COMPLETED":
                done = state["operation"]
                if "location" in done:
                    return str(done["location"])
                trace = str(done.get("failure-cause", {}).get("stack-trace", ""))
                raise RuntimeError(line_of(RuntimeError(trace or "it does not say why")))
            time.sleep(0.1)
        raise TimeoutError(f"not done in {_SAVEPOINT_SECONDS:.0f} s")

    def _log_savepoint(self) -> None:
        """Log how another call resumes; Flink knows it for an hour after the end."""
        try:
            savepoint = self._savepoint_path if self._ends else self._newest_savepoint()
        except (OSError, KeyError):
            # Only this request failed; the state stays where it was.
            return
        if savepoint:
            _LOG.info("to resume, give --savepoint_path=%s", savepoint)

    def _newest_savepoint(self) -> str:
        """Return the last savepoint or checkpoint from before the end was signalled, or ""."""
        stored = list[tuple[int, str]]()
        for job in self._jobs():
            latest = self._flink.ask("GET", f"/jobs/{job['jid']}/checkpoints")["latest"]
            checkpoints = [latest.get(name) for name in ("completed", "savepoint")]
            stored += [
                (int(each["trigger_timestamp"]), str(each["external_path"]))
                for each in checkpoints
                if each and not each.get("discarded")
            ]
        return max(stored, default=(0, ""))[1]

    def _give_up(self, failure: str) -> None:
        self._final_failure = failure
        _LOG.warning("the job failed %d times and is given up", MOST_FAILURES)
        try:
            self.cancel()
        except Exception as error:
            _LOG.warning("Flink did not cancel the job (%s); cancel it there", error)

    def _failures(self, after: int) -> list[tuple[int, str]]:
        """Return the failures since a time: milliseconds and error with trace."""
        failures = list[tuple[int, str]]()
        for job in self._running():
            exceptions = self._flink.ask(
                "GET", f"/jobs/{job}/exceptions?maxExceptions={2 * MOST_FAILURES}"
            )
            entries = exceptions["exceptionHistory"]["entries"]
            failures += [(int(each["timestamp"]), str(each["stacktrace"])) for each in entries]
        return sorted(each for each in failures if each[0] > after)

    def _running(self) -> list[str]:
        """Return Flink's ids of the job; one while it runs, none after its end."""
        return [str(job["jid"]) for job in self._jobs() if job["end-time"] < 0]

    def _jobs(self) -> list[dict[str, Any]]:
        """Return Flink's records of the job, running or ended."""
        jobs = self._flink.ask("GET", "/jobs/overview")["jobs"]
        return [job for job in jobs if job["name"] == self._name]


def flink_failure(options: PipelineOptions, error: Exception) -> FraudError | None:
    """Return the error for users; None for other errors.

    Args:
      options: Beam's options.
      error: Beam's exception, whose text contains Flink's message.
    """
    text = str(error)
    if _OF_SAVEPOINTS in text:
        path = text.partition(_OF_SAVEPOINTS)[2].split(". ")[0]
        if "Cannot map checkpoint/savepoint state" in text:
            why = (
                "it is of a stream with other steps; give the same options as before, but for the "
                "model, or start again with another --out"
            )
        else:
            why = "Flink cannot read it, see its log"
        return FraudError(f"--savepoint_path {path}: {why}", Code.SAVEPOINT_UNUSABLE)
    if (missing := _NO_SAVEPOINT.search(text)) is not None:
        return FraudError(
            f"--savepoint_path {missing[1]}: Flink finds no savepoint or checkpoint there; give "
            "the directory that holds _metadata, as Flink's machines see it",
            Code.SAVEPOINT_UNUSABLE,
        )
    if "ExternalEnvironmentFactory" in text and (pooled := _ASKING_A_POOL.search(text)) is not None:
        pool = options.view_as(PortableOptions).environment_config
        why = refusal[1] if (refusal := _REFUSED.search(text)) is not None else pooled[1]
        return FraudError(
            f"--environment_config {pool}: no pool of workers answers a task manager there "
            f"({why.strip()}); start beam-fraud workers on its machine, or correct the address",
            Code.RUNNER_SILENT,
        )
    if "NoResourceAvailableException" in text:
        parallelism = options.view_as(FlinkRunnerOptions).parallelism
        return FraudError(
            f"--parallelism {parallelism}: too few task slots of Flink became free; give fewer, "
            "start more task managers, or cancel other jobs",
            Code.SLOTS_MISSING,
        )
    return None
