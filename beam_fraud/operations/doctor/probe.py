"""Probe workers by a tiny pipeline.

The result returns as the name of a counter: every runner returns counters when a job has ended, and
some return nothing else.
"""

from __future__ import annotations

import json
import math
import os
import platform
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import apache_beam as beam
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)
from apache_beam.runners.runner import PipelineResult, PipelineState

from beam_fraud import __version__
from beam_fraud.errors import Code, FraudError
from beam_fraud.models.bundle import open_bundle
from beam_fraud.runners.flink.job import FlinkJob, name_of_own
from beam_fraud.runners.submission import Submission
from beam_fraud.storage.atomic import nearest_directory
from beam_fraud.storage.urls import Place

_NAMESPACE = "beam_fraud.operations.doctor"
#: Packages whose versions must match, and should match.
_PACKAGES = ("apache-beam", "scikit-learn", "numpy", "pyarrow")


@dataclass(frozen=True)
class Report:
    """The environment of a worker, or of this process."""

    #: Name of the machine.
    host: str
    #: Version of Python.
    python: str
    #: Version of this package, "" if missing.
    package: str
    #: Other packages to versions, "" if missing.
    versions: dict[str, str]
    #: Model id of the bundle; "" without one, or if it does not open.
    model: str = ""
    #: Reason why it does not open.
    model_refused: str = ""
    #: Code of what the model is refused for, or "".
    model_code: str = ""
    #: Whether it sees the directory of `--out`; None if not requested.
    out: bool | None = None


def report(model: str | None = None, seen: str | None = None) -> Report:
    """Return the environment of the calling process.

    Args:
      model: a bundle to open.
      seen: a file to find, or None.
    """
    refused, model_id, code = "", "", ""
    if model is not None:
        try:
            model_id = open_bundle(model).model_id
        except FraudError as error:
            refused, code = str(error), str(error.code)
    versions = {name: _installed(name) for name in _PACKAGES}
    out = None if seen is None else Path(seen).exists()
    host, python = socket.gethostname(), platform.python_version()
    return Report(host, python, __version__, versions, model_id, refused, code, out)


def probe(
    submission: Submission,
    *,
    model: str | None,
    out: Place | None,
    seconds: float,
) -> Report:
    """Run a pipeline and return its worker's report.

    Args:
      submission: Beam's options, by which the pipeline runs, and the runner.
      model: a bundle to open there, absolute or a URL.
      out: a directory that workers should see, or None.
      seconds: time limit, after which it is cancelled.

    Raises:
      FraudError: it failed, or exceeded the limit.
    """
    options = PipelineOptions.from_dictionary(submission.options.get_all_options(drop_default=True))
    # The probe is bounded, whatever runs later.
    options.view_as(StandardOptions).streaming = False
    if submission.runner.may_be_flink:
        # One worker and one slot suffice.
        options.view_as(FlinkRunnerOptions).parallelism = 1
    options.view_as(PortableOptions).job_server_timeout = math.ceil(seconds)
    with _marked(out) as marker:
        own_name = name_of_own(options)
        pipeline = beam.Pipeline(options=options)
        _ = pipeline | "Probe" >> beam.Create([0]) | "Look" >> beam.Map(_looking(model, marker))
        try:
            result = _finished(pipeline, options, own_name, seconds)
        except FraudError:
            raise
        except Exception as error:
            raise FraudError(
                f"a pipeline does not run there: {_last_line(error)}", Code.PIPELINE_FAILED
            ) from None
    counters = result.metrics().query(MetricsFilter().with_namespace(_NAMESPACE))["counters"]
    for counter in counters:
        return Report(**json.loads(counter.key.metric.name))
    raise FraudError(
        "a pipeline runs there, but its counters do not come back; read the runner's log",
        Code.PIPELINE_FAILED,
    )


def _looking(model: str | None, seen: str | None) -> Callable[[int], None]:
    """Return the function of the worker.

    It is pickled by value, not by the name of a module: workers may lack this package, and some
    runners wait for ever for a worker that cannot unpickle its function.
    """
    namespace = _NAMESPACE

    def look(_: int) -> None:
        import json
        import platform
        import socket
        from dataclasses import asdict

        from apache_beam.metrics import Metrics

        try:
            # Imported by name, so that pickling by value does not include it.
            from beam_fraud.operations.doctor.probe import report

            fields = asdict(report(model, seen))
        except ImportError as error:
            fields = {"host": socket.gethostname(), "python": platform.python_version()}
            fields |= {"package": "", "versions": {}, "model_refused": str(error)}
        Metrics.counter(namespace, json.dumps(fields)).inc()

    return look


def _finished(
    pipeline: beam.Pipeline, options: PipelineOptions, own_name: str | None, seconds: float
) -> PipelineResult:
    """Run a pipeline to its end; some runners retry a failing worker for ever."""
    result = pipeline.run()
    if own_name is not None:
        result = FlinkJob(result, options, own_name)
    if PipelineState.is_terminal(result.state):
        return result
    result.wait_until_finish(duration=seconds * 1000)
    if not PipelineState.is_terminal(result.state):
        result.cancel()
        raise FraudError(
            f"a pipeline did not end within {seconds:g} s and was cancelled; read the runner's "
            "page or log, and check that all requested slots are free",
            Code.PIPELINE_FAILED,
        )
    return result


@contextmanager
def _marked(out: Place | None) -> Iterator[str | None]:
    """Create a file for workers to find, in `--out` or its nearest existing parent."""
    local = None if out is None else out.local
    if local is None:
        yield None
        return
    marker = nearest_directory(local) / f".beam-fraud-doctor-{uuid.uuid4().hex}"
    try:
        marker.touch()
    except OSError:
        # The disk check reports it.
        yield None
        return
    try:
        yield os.fspath(marker)
    finally:
        marker.unlink(missing_ok=True)


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _last_line(error: Exception) -> str:
    """Return the final exception in a runner's text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    raised = [line for line in lines if "Error: " in line or "Exception: " in line]
    chosen = (raised or lines or [type(error).__name__])[-1]
    return chosen[:300]
