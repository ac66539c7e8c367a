"""Options that only some runners look at, refused where the chosen one does not."""

from __future__ import annotations

import argparse
from functools import cache

from apache_beam.options.pipeline_options import (
    DirectOptions,
    FlinkRunnerOptions,
    JobServerOptions,
    PipelineOptions,
    PortableOptions,
    PrismRunnerOptions,
    SparkRunnerOptions,
)

from beam_fraud.errors import UsageError
from beam_fraud.runners.flink_options import FlinkJobOptions
from beam_fraud.runners.runner import Runner

#: The best known come first: messages name two.
_DIRECT = ("DirectRunner", "SwitchingDirectRunner", "BundleBasedDirectRunner")
_PORTABLE = ("FlinkRunner", "PortableRunner", "PrismRunner", "SparkRunner")


@cache
def _owners() -> dict[str, tuple[str, ...]]:
    """Every such option to the runners that look at it."""
    owners: dict[str, tuple[str, ...]] = {}
    for options, runners in (
        # The direct runners hand them to Prism.
        (PortableOptions, (*_PORTABLE, *_DIRECT, "DataflowRunner")),
        (JobServerOptions, (*_PORTABLE, *_DIRECT)),
        (FlinkRunnerOptions, ("FlinkRunner", "PortableRunner")),
        (FlinkJobOptions, ("FlinkRunner", "PortableRunner")),
        (SparkRunnerOptions, ("SparkRunner", "PortableRunner")),
        (PrismRunnerOptions, ("PrismRunner", *_DIRECT)),
        (DirectOptions, ("FnApiRunner", *_DIRECT, "EndlessRunner")),
    ):
        parser = argparse.ArgumentParser(add_help=False)
        options._add_argparse_args(parser)
        owners |= {action.dest: runners for action in parser._actions}
    return owners


def refuse_options_of_others(options: PipelineOptions, runner: Runner) -> None:
    """Refuse options that the runner would drop without a word.

    Args:
      options: Beam's.
      runner: the chosen one; of one that nothing is known of all is taken.

    Raises:
      UsageError: there is one.
    """
    given = options.get_all_options(drop_default=True)
    for name, runners in sorted(_owners().items()):
        if name in given and runner.name not in runners and (runner.tried or runner.portable):
            looking = " or ".join(runners[:2])
            instead = f"--runner {runner.name} does not look at it; leave it out, or give --runner"
            if runner.local:
                instead = "without --runner nothing looks at it; leave it out, or give --runner"
            raise UsageError(f"--{name}: {instead} {looking}")
