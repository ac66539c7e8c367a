"""Options of Beam's Flink runner that only its job server declares."""

from __future__ import annotations

import argparse

from apache_beam.options.pipeline_options import PipelineOptions

_NUMBERS = (
    "checkpointing_interval",
    "checkpoint_timeout_millis",
    "max_bundle_size",
    "max_bundle_time_mills",
    "min_pause_between_checkpoints",
    "shutdown_sources_after_idle_ms",
)
_FLAGS = (
    "allow_non_restored_state",
    "disable_metrics",
    "externalized_checkpoints_enabled",
    "faster_copy",
    "finish_bundle_before_checkpointing",
    "object_reuse",
    "operator_chaining",
    "retain_externalized_checkpoints_on_cancellation",
    "unaligned_checkpoint_enabled",
)
_TEXTS = (
    "checkpointing_mode",
    "execution_mode_for_batch",
    "savepoint_path",
    "state_backend",
    "state_backend_storage_path",
)
#: Defaults for streams on Flink.
STREAM_DEFAULTS = {
    # Otherwise a bundle's output during a checkpoint waits for the next bundle, which never comes
    # after the one that names the partitions.
    "finish_bundle_before_checkpointing": True,
    # Rows are emitted at the end of a bundle, which lasts a second by default.
    "max_bundle_time_mills": 100,
    # Otherwise operator names differ between one and several workers, and neither can open the
    # other's savepoint.
    "operator_chaining": False,
    # Flink's elements are immutable bytes and need no copies.
    "faster_copy": True,
    # A job that was not stopped with a savepoint can resume from its last checkpoint. Beam's job
    # server reads the second option only with the first, and ignores the cluster's configuration.
    "externalized_checkpoints_enabled": True,
    "retain_externalized_checkpoints_on_cancellation": True,
}


class FlinkJobOptions(PipelineOptions):
    """Options of streams on Flink, which Beam's Python part passes to the job server.

    Importing this module registers them with Beam.
    """

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        for name in _NUMBERS:
            parser.add_argument(f"--{name}", type=int, default=None)
        for name in _FLAGS:
            parser.add_argument(f"--{name}", type=_flag, default=None)
        for name in _TEXTS:
            parser.add_argument(f"--{name}", default=None)


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"
