"""Find the destination of a call's pipeline, and check that it can run it."""

from __future__ import annotations

from beam_fraud.cli.options import BatchOptions, ScoringOptions, StreamOptions
from beam_fraud.runners.dataflow.checks import IN_IMAGE, refuse_in_template
from beam_fraud.runners.refusal import Target, refuse_unsupported
from beam_fraud.runners.submission import Submission
from beam_fraud.runners.worker_place import WorkerPlace
from beam_fraud.sinks.base import FlaggedSink


def target_of_batch(
    options: BatchOptions, sink: FlaggedSink | None, submission: Submission
) -> Target:
    """Return the destination of a pipeline over files; refuse what it cannot run.

    Args:
      options: options of the call.
      sink: the sink of `--sink`.
      submission: Beam's options and the runner.

    Raises:
      UsageError: the runner cannot run it, or an option is missing or has no effect.
      FraudError: an address does not answer.
    """
    places = [WorkerPlace("", file) for file in options.files]
    places += [WorkerPlace("--history", file) for file in options.history]
    places.append(WorkerPlace("--out", options.out, written=True))
    if isinstance(options, ScoringOptions):
        refuse_in_template(submission, {"--sink": options.sink, "--alert": options.alerts})
        places += _of_scoring(options, sink)
    return refuse_unsupported(submission, places, streaming=False, workers=options.workers)


def target_of_stream(
    options: StreamOptions, sink: FlaggedSink | None, submission: Submission
) -> Target:
    """Return the same for a pipeline over a stream.

    Raises:
      UsageError: the runner cannot run it, or an option is missing or has no effect.
      FraudError: an address does not answer.
    """
    refuse_in_template(submission, {"--alert": options.alerts})
    places = [WorkerPlace("--history", file) for file in options.history]
    if options.watch is not None:
        places.append(WorkerPlace("--watch", options.watch, on_disk=True, fix="give --kafka"))
    places.append(WorkerPlace("--out", options.out, written=True))
    if options.kafka_properties is not None:
        places.append(_file("--kafka-properties", options.kafka_properties))
    for setting in options.kafka_config:
        name, _, value = setting.partition("=")
        if value.startswith("file:"):
            places.append(_file(f"--kafka-config {name}", value.removeprefix("file:")))
    places += _of_scoring(options, sink)
    until_idle = options.until_idle is not None
    return refuse_unsupported(submission, places, streaming=True, until_idle=until_idle)


def _of_scoring(options: ScoringOptions, sink: FlaggedSink | None) -> list[WorkerPlace]:
    """Return the bundle, the sink and its secret files as places of workers."""
    fix = f"put it in a bucket, or in the image under {IN_IMAGE}"
    places = [WorkerPlace("--model", options.model, fix=fix)]
    if sink is None:
        return places
    if sink.disk is not None:
        other = "give postgresql:// or bigquery:"
        places.append(WorkerPlace("--sink", sink.describe(), on_disk=True, fix=other))
    return places + [_file(f"--sink {name}", path) for name, path in sink.worker_files.items()]


def _file(option: str, path: str) -> WorkerPlace:
    """Return a file that every worker reads itself, so that no job contains secrets."""
    fix = f"put it in the image under {IN_IMAGE}"
    return WorkerPlace(option, path, fix=fix)
