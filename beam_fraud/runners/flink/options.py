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
#: What a stream is run with on Flink, unless something else is given.
STREAM_DEFAULTS = {
    # Otherwise what a bundle gives while a checkpoint is taken waits for the next bundle, which
    # after the one that names the partitions never comes.
    "finish_bundle_before_checkpointing": True,
    # Rows go on at the end of a bundle, which is a second long by default.
    "max_bundle_time_mills": 100,
    # Otherwise operators have other names with one worker than with several, and a savepoint of one
    # cannot be taken up by the other.
    "operator_chaining": False,
    # Elements are bytes to Flink, which nobody changes: they need no copies.
    "faster_copy": True,
    # What was not stopped by a savepoint can go on from its last checkpoint. Beam's job server
    # looks at the second only with the first, and never at what its cluster is configured with.
    "externalized_checkpoints_enabled": True,
    "retain_externalized_checkpoints_on_cancellation": True,
}


class FlinkJobOptions(PipelineOptions):
    """What a stream on Flink needs; Beam's Python part hands to the job server what is given.

    Known to Beam as soon as this module is imported.
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
