"""Parts of Beam beyond its public API; no other module uses any.

A release of Beam may change any of it without notice. Before `READ_AGAINST` is set to another
version, read these places of that version's source, in the order of this file:

- `io/unbounded_source.py`: `_ReadFromUnboundedSourceDoFn` and its attributes `_poll_interval` and
  `_reader_cache`, `_ReaderCache`, `_PROVIDER` (`transforms/read_stream.py`);
- `runners/portability/fn_api_runner/fn_runner.py: FnApiRunner.run_stages`, and how it uses
  `consolidate_monitoring_infos` and `statesampler.StateSampler`;
- `runners/worker/sdk_worker_main.py: create_harness` and `_FN_LOG_HANDLER`,
  `runners/worker/worker_id_interceptor.py` (`runners/workers/worker.py`);
- `runners/worker/sdk_worker.py: ShortIdCache` and `SHORT_ID_CACHE`, and of Prism
  `internal/jobservices/metrics.go: contributeMetrics` (`runners/launch.py`);
- `options/pipeline_options.py: _add_argparse_args` (`runners/checks.py`);
- `runners/portability/{flink,spark,prism}_runner.py`, `utils/subprocess_server.py: JavaJarServer`
  (`runners/downloads.py`);
- `runners/dataflow/internal/apiclient.py: DataflowApplicationClient`,
  `runners/dataflow/dataflow_runner.py: DataflowPipelineResult` (`runners/dataflow/job.py`);
- `io/filesystems.py: FileSystems.get_filesystem` (`storage/objects.py`).
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

from apache_beam.io.filesystems import FileSystems
from apache_beam.io.unbounded_source import _PROVIDER as UNBOUNDED_SOURCES
from apache_beam.io.unbounded_source import _ReaderCache as ReaderCache
from apache_beam.io.unbounded_source import _ReadFromUnboundedSourceDoFn as UnboundedSourceDoFn
from apache_beam.metrics import monitoring_infos
from apache_beam.options.pipeline_options import JobServerOptions, PipelineOptions
from apache_beam.options.value_provider import RuntimeValueProvider
from apache_beam.portability.api import metrics_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.runner import PipelineResult
from apache_beam.runners.worker import sdk_worker, sdk_worker_main, statesampler
from apache_beam.runners.worker.worker_id_interceptor import WorkerIdInterceptor

#: The version of Beam whose source was read for what follows.
READ_AGAINST = "2.77.0"

__all__ = [
    "READ_AGAINST",
    "UNBOUNDED_SOURCES",
    "EndlessRunner",
    "ReaderCache",
    "UnboundedSourceDoFn",
    "dataflow_jobs",
    "declared_options",
    "drain_dataflow_job",
    "every_report_counts",
    "file_systems_have_options",
    "job_server_jar",
    "prism_program",
    "worker_harness",
]
#: From one sample of the step at work to the next; nothing here uses the samples.
_SAMPLING_MILLISECONDS = 2
#: First reports of a metric that have short ids of their own. Prism runs 8 bundles at once, each of
#: which waits until the meaning of its ids is known.
_OWN_REPORTS = 64


class EndlessRunner(fn_runner.FnApiRunner):
    """Beam's local runner for streams: with constant memory, and no delay when a bundle ends.

    After each bundle, `FnApiRunner` chains the bundle's metrics to those of all bundles before in
    generators that nothing consumes before the end: every bundle stays in memory, and a thousand of
    them end in a RecursionError. This runner adds up the counters at once and drops other metrics,
    which the graph does not have.

    At the end of each bundle, `FnApiRunner` joins a thread that samples which step is at work. The
    thread sleeps between samples for a sixth of the bundle's duration; here it samples often.
    """

    def run_stages(self, stage_context: Any, stages: Any) -> Any:
        # Both are used in the middle of long methods.
        sampler = partial(statesampler.StateSampler, sampling_period_ms=_SAMPLING_MILLISECONDS)
        with (
            _replaced(fn_runner, "consolidate_monitoring_infos", added_up),
            _replaced(statesampler, "StateSampler", sampler),
        ):
            return super().run_stages(stage_context, stages)


def added_up(infos: Iterable[metrics_pb2.MonitoringInfo]) -> list[metrics_pb2.MonitoringInfo]:
    """Return the counters of steps, summed by name and step; drop other metrics.

    Args:
      infos: metrics of any kind.
    """
    counters = [info for info in infos if info.urn == monitoring_infos.USER_COUNTER_URN]
    return list(monitoring_infos.consolidate(counters))


@contextmanager
def _replaced(module: ModuleType, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextmanager
def every_report_counts() -> Iterator[None]:
    """Have Prism count what all bundles of this process report, inside the `with`.

    A worker reports metrics by short ids, and the runner asks what a new id means. Prism keeps the
    value of an id until it knows its meaning, but only one: of two bundles that report a counter
    for the first time at once, it forgets the rows of one (2.77).
    """
    with _replaced(sdk_worker, "SHORT_ID_CACHE", ReportIds()):
        yield


class ReportIds(sdk_worker.ShortIdCache):
    """Short ids of metrics: several of a user's metric, so that no two first reports share one."""

    def __init__(self) -> None:
        super().__init__()
        self._turn = threading.Lock()
        self._of_reports: dict[Hashable, list[str]] = {}

    def get_short_id(self, monitoring_info: metrics_pb2.MonitoringInfo) -> str:
        """Return the short id for a report of a metric."""
        key = monitoring_infos.to_key(monitoring_info)
        with self._turn:
            if not monitoring_infos.is_user_monitoring_info(monitoring_info):
                return str(super().get_short_id(monitoring_info))
            ids = self._of_reports.setdefault(key, [])
            if len(ids) == _OWN_REPORTS:
                # Known for long.
                return ids[0]
            self._info_key_to_short_id.pop(key, None)
            ids.append(str(super().get_short_id(monitoring_info)))
            return ids[-1]


def worker_harness(worker_id: str, environment: Mapping[str, str]) -> tuple[Any, Any]:
    """Return the sender of this process's log to its runner, and the harness of the work.

    Args:
      worker_id: the name that the runner gave the worker.
      environment: the variables that Beam's containers start a worker with.
    """
    # Beam reads the name from the environment on import, which a forked process has behind it.
    WorkerIdInterceptor._worker_id = worker_id
    logs, harness, _ = sdk_worker_main.create_harness(environment)
    # Beam closes this one when it gives a worker up.
    sdk_worker_main._FN_LOG_HANDLER = logs
    return logs, harness


def declared_options(options: type[PipelineOptions]) -> list[str]:
    """Names of the options that a class declares."""
    parser = argparse.ArgumentParser(add_help=False)
    options._add_argparse_args(parser)
    return [action.dest for action in parser._actions]


def job_server_jar(runner: str, options: PipelineOptions) -> None:
    """Download the jar of a runner's job server, unless it is in Beam's cache.

    Args:
      runner: `FlinkRunner` or `SparkRunner`.
      options: may name another jar and another cache.

    Raises:
      Exception: whatever the download raises.
    """
    from apache_beam.runners.portability.flink_runner import FlinkJarJobServer
    from apache_beam.runners.portability.spark_runner import SparkJarJobServer

    server = {"FlinkRunner": FlinkJarJobServer, "SparkRunner": SparkJarJobServer}[runner]
    cache = options.view_as(JobServerOptions).jar_cache_dir
    server.local_jar(server(options).path_to_jar(), cache)


def prism_program(options: PipelineOptions) -> str:
    """Path of the Prism program, downloaded unless it is in Beam's cache.

    Raises:
      Exception: whatever the download raises.
    """
    from apache_beam.runners.portability.prism_runner import PrismJobServer

    command, _ = PrismJobServer(options).subprocess_cmd_and_endpoint()
    return str(command[0])


def dataflow_jobs(options: PipelineOptions, request: Any) -> Any:
    """Jobs of Dataflow, by a `ListJobsRequest`; needs the extra `gcp`."""
    from apache_beam.runners.dataflow.internal.apiclient import DataflowApplicationClient

    return DataflowApplicationClient(options)._jobs_client.list_jobs(request)


def drain_dataflow_job(result: PipelineResult) -> None:
    """Ask Dataflow to drain the job of a result."""
    client = result._runner.dataflow_client
    client.modify_job_state(result.job_id(), "JOB_STATE_DRAINING")


def file_systems_have_options() -> bool:
    """Return whether `FileSystems` has options, of a pipeline or of the runner of this worker."""
    options_of = (FileSystems._pipeline_options, RuntimeValueProvider.runtime_options)
    return any(options is not None for options in options_of)
