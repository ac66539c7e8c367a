"""Options of Beam's Flink runner that only its job server declares."""

from __future__ import annotations

import argparse

from apache_beam.options.pipeline_options import PipelineOptions


class FlinkJobOptions(PipelineOptions):
    """What a stream on Flink needs; Beam's Python part hands to the job server what is given.

    Known to Beam as soon as this module is imported.
    """

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        for name in ("checkpointing_interval", "shutdown_sources_after_idle_ms"):
            parser.add_argument(f"--{name}", type=int, default=None)
        for name in ("state_backend", "state_backend_storage_path", "savepoint_path"):
            parser.add_argument(f"--{name}", default=None)
