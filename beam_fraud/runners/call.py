"""A call of a runner: what it is to run, and the services that its options name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions

from beam_fraud.runners.address import Address, runner_behind
from beam_fraud.runners.flink.rest import FlinkRest, flink_of
from beam_fraud.runners.runner import Runner, runner_named
from beam_fraud.runners.submission import Submission
from beam_fraud.runners.worker_place import WorkerPlace


@dataclass(frozen=True)
class Target:
    """Destination of a pipeline."""

    #: The runner; for a job server that reports it, the runner behind it.
    runner: Runner
    #: Address of the machine that runs it; None for this one.
    cluster: Address | None = None


@dataclass(frozen=True, eq=False)
class Call:
    """A run of a pipeline; its addresses are parsed once, and each service is asked once."""

    #: Beam's options and the runner.
    submission: Submission
    _: KW_ONLY
    #: Whether the source is unbounded.
    streaming: bool
    #: Files that workers read and write.
    places: Sequence[WorkerPlace] = ()
    #: Processes on this machine.
    workers: int = 1
    #: Whether the stream ends when idle.
    until_idle: bool = False
    #: Options of the call, or parts of it, that need the command when the job ends.
    attended: Sequence[str] = ()
    #: Whether to check what a launch leaves to the runner, too.
    thorough: bool = False

    @property
    def options(self) -> PipelineOptions:
        """Beam's options."""
        return self.submission.options

    @property
    def runner(self) -> Runner:
        """The runner that `--runner` names."""
        return self.submission.runner

    @property
    def what(self) -> str:
        """Kind of the input, for messages."""
        return "a stream" if self.streaming else "files"

    @cached_property
    def beam_options(self) -> dict[str, Any]:
        """Beam's options that differ from their defaults."""
        return dict(self.options.get_all_options(drop_default=True))

    @property
    def endpoint(self) -> str | None:
        """`--job_endpoint`."""
        endpoint: str | None = self.options.view_as(PortableOptions).job_endpoint
        return endpoint

    @cached_property
    def server(self) -> Address | None:
        """The job server; None if Beam starts one.

        Raises:
          UsageError: `--job_endpoint` is no address.
        """
        if self.endpoint in (None, "embed"):
            return None
        return Address.parse("--job_endpoint", str(self.endpoint))

    @cached_property
    def flink(self) -> FlinkRest | None:
        """The Flink of `--flink_master`; None if only the job server knows it.

        Raises:
          UsageError: `--flink_master` is no address.
        """
        return flink_of(self.options) if self.runner.may_be_flink else None

    @property
    def cluster(self) -> Address | None:
        """Address of the machine that runs the pipeline; None for this one."""
        return self.flink.address if self.flink else self.server

    @cached_property
    def behind(self) -> str | None:
        """The runner that the job server reports, or None.

        Raises:
          FraudError: no job server of Beam answers.
        """
        return None if self.server is None else runner_behind(self.server)

    @cached_property
    def target(self) -> Target:
        """The destination of the pipeline.

        Raises:
          FraudError: no job server of Beam answers.
        """
        if not self.runner.portable:
            return Target(self.runner)
        if self.runner.name == "PortableRunner" and self.behind is not None:
            return Target(runner_named(self.behind), self.cluster)
        return Target(self.runner, self.cluster)
