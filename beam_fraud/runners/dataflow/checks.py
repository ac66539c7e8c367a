"""Check a Google Cloud Dataflow job before it is submitted."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)

from beam_fraud.beam_internals import dataflow_jobs
from beam_fraud.errors import Code, FraudError, UsageError, install
from beam_fraud.runners.call import Call
from beam_fraud.runners.check import Caution, Finding, RunnerCheck
from beam_fraud.runners.submission import Submission
from beam_fraud.storage.urls import Place
from beam_fraud.wording import first_line

#: Directory in images of `deploy/dataflow/Dockerfile` for files without a URL, such as the bundle.
IN_IMAGE = "/opt/beam-fraud"
_BUCKET = re.compile(r"gs://[a-z0-9][-_a-z0-9.]+[a-z0-9](/|$)")
_JOB_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def _attended(call: Call) -> Iterable[Finding]:
    """Refuse options that need the command at the job's end: a template's has exited by then."""
    if call.submission.template_location and call.attended:
        option = call.attended[0].startswith("--")
        raise UsageError(
            f"{call.attended[0]}: needs this command to be there when the job ends, and that of a "
            f"template is not; {'leave it out, or ' if option else ''}launch without "
            "--template_location",
            Code.RUNNER_OPTION,
        )
    return ()


def _credentials(call: Call) -> Iterator[Finding]:
    """Check where Google's libraries find a login, without using it."""
    file = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if file is not None:
        if not Path(file).is_file():
            raise FraudError(
                f"{file} is not there; mend GOOGLE_APPLICATION_CREDENTIALS", Code.RUNNER_OPTION
            )
        yield f"of {file}"
        return
    home = os.environ.get("CLOUDSDK_CONFIG") or Path.home() / ".config/gcloud"
    login = Path(home) / "application_default_credentials.json"
    if login.is_file():
        yield f"of {login}"
        return
    yield Caution(
        "none on this machine, unless it is one of Google's",
        "gcloud auth application-default login",
    )


def _job(call: Call) -> Iterator[Finding]:
    """Yield the obstacles of a job, without requests."""
    for problem in _missing(call.submission):
        yield UsageError(problem, Code.RUNNER_OPTION)


def _updated(call: Call) -> Iterator[Finding]:
    """Check that the job to update exists; Beam would search it without end."""
    cloud = call.options.view_as(GoogleCloudOptions)
    if not cloud.update:
        return
    from google.cloud import dataflow

    request = dataflow.ListJobsRequest(project_id=cloud.project, location=cloud.region)
    running = (dataflow.JobState.JOB_STATE_RUNNING, dataflow.JobState.JOB_STATE_DRAINING)
    try:
        jobs = dataflow_jobs(call.options, request)
        found = any(job.name == cloud.job_name and job.current_state in running for job in jobs)
    except Exception as error:  # the client and the network may raise anything
        raise FraudError(
            f"--update: the jobs cannot be listed ({first_line(error)})", Code.RUNNER_OPTION
        ) from None
    if not found:
        raise FraudError(
            f"--update: no job {cloud.job_name} runs in {cloud.region}; leave it out to start it",
            Code.RUNNER_OPTION,
        )
    yield f"{cloud.job_name} runs in {cloud.region}"


def _missing(submission: Submission) -> Iterator[str]:
    options = submission.options
    cloud, worker = options.view_as(GoogleCloudOptions), options.view_as(WorkerOptions)
    if not _installed():
        yield f"--runner DataflowRunner: needs Google's libraries: {install('gcp')}"
    if not cloud.project:
        yield "--project: Dataflow needs the id of a project, as in --project my-project"
    if not cloud.region and not os.environ.get("CLOUDSDK_COMPUTE_REGION"):
        yield "--region: Dataflow needs one, as in --region europe-west1"
    # Without a location, Beam would create a bucket.
    if not cloud.temp_location:
        yield "--temp_location: Dataflow needs a place for its files: gs://BUCKET/DIR"
    for name in ("temp_location", "staging_location", "template_location"):
        place = getattr(cloud, name)
        # A template may be stored on a disk, to be copied elsewhere.
        on_disk = name == "template_location" and (there := submission.place(name)) and there.local
        if place and not _BUCKET.match(place) and not on_disk:
            yield f"--{name} {place}: Dataflow sees Cloud Storage alone; write gs://BUCKET/DIR"
    if not _package_goes_along(options, worker):
        yield (
            "--sdk_container_image: Dataflow's workers lack this package; give an image that "
            "holds it (deploy/dataflow), or --setup_file"
        )
    if cloud.job_name and not _JOB_NAME.fullmatch(cloud.job_name):
        yield (
            f"--job_name {cloud.job_name}: small letters, digits and dashes alone, a letter first"
        )
    if cloud.update and not options.view_as(StandardOptions).streaming:
        yield "--update: only a stream can be updated; start a new job"
    elif cloud.update and not cloud.job_name:
        yield "--update: say of which job, by --job_name NAME"


def _package_goes_along(options: PipelineOptions, worker: WorkerOptions) -> bool:
    setup = options.view_as(SetupOptions)
    images = (worker.sdk_container_image, worker.worker_harness_container_image)
    return any((*images, setup.setup_file, setup.extra_packages, setup.requirements_file))


def _installed() -> bool:
    try:
        return find_spec("google.cloud.dataflow") is not None
    except ModuleNotFoundError:
        return False


def _unseen(call: Call) -> Iterator[Finding]:
    """Yield the places that only this machine sees."""
    for each in call.places:
        there = not each.written and not each.on_disk and _in_image(each.place)
        if each.local and not there:
            problem = f"{each}: Dataflow's workers do not see this machine's disk; {each.fix}"
            yield UsageError(problem, Code.RUNNER_OPTION)


def _in_image(place: Place) -> bool:
    return Path(place.name).is_relative_to(IN_IMAGE)


#: The checks of a job.
CHECKS = (
    RunnerCheck("template", _attended),
    RunnerCheck("credentials", _credentials, launch="skip"),
    RunnerCheck("job", _job),
    RunnerCheck("places", _unseen),
    RunnerCheck("update", _updated, needs=("options", "job")),
)
