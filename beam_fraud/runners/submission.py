"""A pipeline as it is submitted: Beam's options, and the runner that they name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)

from beam_fraud.runners.flink.options import STREAM_DEFAULTS
from beam_fraud.runners.runner import ONLY_FILES, Runner, runner_named
from beam_fraud.storage.urls import Place

#: The default runner: it needs no download or service, unlike the first choice of `DirectRunner`.
LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
#: The default runner for unbounded sources.
ENDLESS_RUNNER = "beam_fraud.beam_internals.EndlessRunner"
#: Logger that logs after every bundle; elsewhere the lines go over the network into the runner's
#: log.
_QUIET = {"apache_beam.transforms.util": "WARNING"}
#: Seconds between commits of positions to the broker, which only show the progress.
_FINALIZE_SECONDS = 5.0
#: Time limit of a pipeline on Prism, ten years: Beam gives up after five minutes, as for a single
#: request.
_PRISM_DEFAULTS = {"job_server_timeout": 10 * 365 * 86_400}
#: Experiment that stops Prism from splitting bundles: it splits slow bundles even of stateful
#: steps, and runs the rest at once; two bundles then share a key, and the later write replaces all
#: state of the earlier one.
_PRISM_WHOLE_BUNDLES = "prism_disable_sdf_split"


@dataclass(frozen=True)
class Submission:
    """Beam's options of a call, and the runner that they name; each is determined once."""

    #: Beam's options.
    options: PipelineOptions
    #: The runner that `--runner` names; behind a job server there may be another.
    runner: Runner

    @classmethod
    def of(cls, beam_args: Sequence[str], workers: int, *, streaming: bool = False) -> Submission:
        """Parse the arguments for Beam and add what the runner needs.

        Args:
          beam_args: the user's arguments for Beam.
          workers: processes on this machine.
          streaming: whether the source is unbounded.
        """
        several = {"direct_num_workers": workers, "direct_running_mode": "multi_processing"}
        options = PipelineOptions(list(beam_args))
        # Checks before the launch use the project and keys of the options.
        FileSystems.set_options(options)
        standard = options.view_as(StandardOptions)
        name = options.get_all_options(drop_default=True).get("runner")
        runner = runner_named(LOCAL_RUNNER if name is None else name)
        if runner.local:
            standard.runner = ENDLESS_RUNNER if streaming else LOCAL_RUNNER
            runner = runner_named(standard.runner)
        elif "." not in name:
            # Beam accepts `flink` for FlinkRunner, but not everywhere.
            standard.runner = runner.name
        if streaming:
            standard.streaming = True
        more: dict[str, object] = {**several} if workers > 1 else {}
        if streaming and runner.may_be_flink:
            more |= STREAM_DEFAULTS
        if not runner.local:
            more |= {"sdk_harness_log_level_overrides": _QUIET}
        if runner.on_prism:
            more |= _PRISM_DEFAULTS
        chosen = options.get_all_options(drop_default=True)
        parsed = PipelineOptions(list(beam_args), **{**more, **chosen})
        if streaming and runner.may_be_prism:
            parsed.view_as(DebugOptions).add_experiment(_PRISM_WHOLE_BUNDLES)
        if runner.portable and parsed.view_as(PortableOptions).job_endpoint == "embed":
            # Beam's local runner behind a job server.
            runner = replace(runner, can=ONLY_FILES)
        return cls(parsed, runner)

    def place(self, option: str) -> Place | None:
        """Return the place that an option of Beam names, such as `prism_location`, or None."""
        given = self.options.get_all_options(drop_default=True).get(option)
        return Place.parse(str(given)) if given else None

    @property
    def workers(self) -> int | None:
        """Number of workers that the runner's options name, or None."""
        chosen = self.options.get_all_options(drop_default=True)
        names = ("max_num_workers", "num_workers") if self.runner.dataflow else ("parallelism",)
        return next((int(chosen[name]) for name in names if chosen.get(name)), None)

    @property
    def takes_checkpoints(self) -> bool:
        """Return whether the runner takes checkpoints and notifies its workers."""
        beam_options = self.options.get_all_options(drop_default=True)
        return self.runner.may_be_flink and beam_options.get("checkpointing_interval", -1) > 0

    @property
    def finalize_seconds(self) -> float:
        """Seconds between finalization requests of a source (`ReadElsewhere`)."""
        if self.runner.on_prism or self.runner.local:
            return 0.0
        never = self.runner.may_be_flink and not self.takes_checkpoints
        return math.inf if never else _FINALIZE_SECONDS

    @property
    def repeats_nothing(self) -> bool:
        """Return whether the runner has one worker process and ends at the first failed bundle."""
        return self.runner.on_prism

    @property
    def from_savepoint(self) -> bool:
        """Return whether the runner starts from another job's state."""
        beam_options = self.options.get_all_options(drop_default=True)
        return self.runner.may_be_flink and "savepoint_path" in beam_options

    @property
    def continues(self) -> bool:
        """Return whether the runner starts from the state of an earlier stream."""
        update = self.options.view_as(GoogleCloudOptions).update
        return bool(update) or self.from_savepoint

    @property
    def template_location(self) -> str | None:
        """Where to store the job as a template; None if it is run."""
        if not self.runner.dataflow:
            return None
        location: str | None = self.options.view_as(GoogleCloudOptions).template_location
        return location
