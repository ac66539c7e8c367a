"""The runner that a command's pipeline goes to, asked whether it can run it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_fraud.runners.refusal import (
    Place,
    Target,
    refuse_graph,
    refuse_unsupported,
    warn_of_unseen,
)
from beam_fraud.sinks.base import FlaggedSink
from beam_fraud.sinks.database import DatabaseSink
from beam_fraud.sinks.database_url import database_file
from beam_fraud.sinks.parquet import ParquetSink
from beam_fraud.urls import is_url


def target_of(
    options: PipelineOptions,
    *,
    files: Sequence[str],
    out: str,
    streaming: bool = False,
    workers: int = 1,
    until_idle: bool = False,
    model: str | None = None,
) -> Target:
    """Where a pipeline will go; a call that the runner cannot carry out ends here.

    Args:
      options: Beam's.
      files: what is read, as given.
      out: `--out`.
      streaming: whether the source has no end.
      workers: `--workers`.
      until_idle: whether `--until-idle` is given.
      model: `--model`, if there is one.

    Raises:
      UsageError: the runner cannot run it, or an option is missing or in vain.
      FraudError: nothing answers at an address.
    """
    target = refuse_unsupported(
        options, streaming=streaming, workers=workers, until_idle=until_idle
    )
    places = [Place("input", file, not is_url(file)) for file in files]
    places.append(Place("--out", out, not is_url(out)))
    if model is not None:
        places.append(Place("--model", model, not is_url(model)))
    warn_of_unseen(target, places)
    return target


def refuse_pipeline(
    target: Target,
    options: PipelineOptions,
    build: Callable[[beam.Pipeline], None],
    sink: FlaggedSink | None = None,
) -> None:
    """See that the runner can do what a graph needs, and name a sink that it may not reach.

    Args:
      target: where it goes.
      options: Beam's.
      build: adds the graph to a pipeline, which is not run.
      sink: where flagged rows go.

    Raises:
      UsageError: it cannot.
    """
    if target.runner.local:
        # The tests run every graph there, and making one takes its time.
        return
    warn_of_unseen(target, list(_of_sink(sink)))
    refuse_graph(target, build)


def _of_sink(sink: FlaggedSink | None) -> Iterator[Place]:
    if isinstance(sink, DatabaseSink) and database_file(sink.url) is not None:
        yield Place("--sink", sink.describe(), local=True)
    if isinstance(sink, ParquetSink):
        yield Place("--sink", sink.describe(), not is_url(str(sink.directory)))
