"""Check a Google Cloud Dataflow job before it is submitted."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)

from beam_fraud.errors import Code, UsageError, install
from beam_fraud.runners.submission import Submission
from beam_fraud.runners.worker_place import WorkerPlace
from beam_fraud.storage.urls import Place

#: Directory in images of `deploy/dataflow/Dockerfile` for files without a URL, such as the bundle.
IN_IMAGE = "/opt/beam-fraud"
_BUCKET = re.compile(r"gs://[a-z0-9][-_a-z0-9.]+[a-z0-9](/|$)")
_JOB_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def dataflow_problems(options: PipelineOptions, places: Sequence[WorkerPlace] = ()) -> list[str]:
    """Return the obstacles of a job on Dataflow, a line each with its fix, without requests.

    Args:
      options: Beam's options.
      places: files that workers read and write.
    """
    return [*_missing(options), *_unseen(places)]


def refuse_in_template(submission: Submission, values: Mapping[str, object]) -> None:
    """Refuse options that need the command at the job's end: a template's has exited by then.

    Args:
      submission: Beam's options and the runner.
      values: values of such options by name; unset ones are fine.

    Raises:
      UsageError: one is set, and the call creates a template.
    """
    for option in (name for name, value in values.items() if value):
        if submission.template_location:
            raise UsageError(
                f"{option}: needs this command to be there when the job ends, and that of a "
                "template is not; leave it out, or launch without --template_location",
                Code.RUNNER_OPTION,
            )


def _missing(options: PipelineOptions) -> Iterator[str]:
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
        on_disk = name == "template_location" and place and Place.parse(place).local
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


def _unseen(places: Sequence[WorkerPlace]) -> Iterator[str]:
    """Yield the places that only this machine sees."""
    for each in places:
        there = not each.written and not each.on_disk and _in_image(each.place)
        if each.local and not there:
            yield f"{each}: Dataflow's workers do not see this machine's disk; {each.fix}"


def _in_image(place: str) -> bool:
    return Path(place).is_relative_to(IN_IMAGE)
