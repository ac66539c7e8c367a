"""What of a call cannot be where Dataflow's workers are, refused before anything is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from beam_fraud.commands.batch import BatchOptions
from beam_fraud.commands.scoring import ScoringOptions, no_outbox
from beam_fraud.errors import UsageError
from beam_fraud.places import disk_of
from beam_fraud.runners.dataflow import (
    IN_IMAGE,
    WorkerPlace,
    refuse_on_dataflow,
    template_location,
)
from beam_fraud.runners.runner import runner_of
from beam_fraud.sinks.database import DatabaseSink
from beam_fraud.sinks.database_url import FILE_OPTIONS, parse
from beam_fraud.sinks.url import parse_sink
from beam_fraud.urls import is_url

if TYPE_CHECKING:
    from beam_fraud.commands.stream_plan import StreamOptions


def refuse_batch(options: BatchOptions, beam_options: PipelineOptions) -> None:
    """Refuse what a job over files cannot have there; does nothing for another runner.

    Raises:
      UsageError: an option is missing, or names what workers do not see.
    """
    if not runner_of(beam_options).dataflow:
        return
    places = [WorkerPlace("", file) for file in options.files]
    places += [WorkerPlace("--history", file) for file in options.history]
    places.append(WorkerPlace("--out", options.out, written=True))
    if isinstance(options, ScoringOptions):
        places += scoring_places(options)
        _refuse_alerts_without_database(options, options.out)
        if template_location(beam_options):
            _refuse_in_template("--sink", options.sink)
            _refuse_in_template("--alert", options.alerts)
    if beam_options.view_as(GoogleCloudOptions).update:
        raise UsageError("--update: only a stream can be updated; start a new job")
    refuse_on_dataflow(beam_options, places)


def refuse_stream(options: StreamOptions, beam_options: PipelineOptions) -> None:
    """Refuse what a job over a stream cannot have there; does nothing for another runner.

    Raises:
      UsageError: an option is missing, or names what workers do not see.
    """
    if not runner_of(beam_options).dataflow:
        return
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
    places += scoring_places(options)
    _refuse_alerts_without_database(options, options.out)
    if template_location(beam_options):
        _refuse_in_template("--alert", options.alerts)
    refuse_on_dataflow(beam_options, places)


def scoring_places(options: ScoringOptions) -> Sequence[WorkerPlace]:
    """The bundle and the sink, as workers see them, and files that name secrets of the sink."""
    fix = f"put it in a bucket, or in the image under {IN_IMAGE}"
    places = [WorkerPlace("--model", options.model, fix=fix)]
    sink = None if options.sink is None else parse_sink(options.sink)
    if sink is not None and disk_of(sink) is not None:
        other = "give postgresql:// or bigquery:"
        places.append(WorkerPlace("--sink", sink.describe(), on_disk=True, fix=other))
    elif isinstance(sink, DatabaseSink) and sink.url.startswith("postgresql"):
        query = parse(sink.url).query
        for name in FILE_OPTIONS:
            path = query.get(name)
            if isinstance(path, str) and path != "system":
                places.append(_file(f"--sink {name}", path))
    return places


def _file(option: str, path: str) -> WorkerPlace:
    """What every worker reads by itself, so that secrets travel with no job."""
    fix = f"put it in the image under {IN_IMAGE}"
    return WorkerPlace(option, path, fix=fix)


def _refuse_alerts_without_database(options: ScoringOptions, out: str) -> None:
    sink = None if options.sink is None else parse_sink(options.sink)
    if options.alerts and is_url(out) and (sink is None or sink.database is None):
        raise no_outbox(out)


def _refuse_in_template(option: str, given: object) -> None:
    """What needs the command when the job ends: that of a template has gone by then."""
    if given:
        raise UsageError(
            f"{option}: needs this command to be there when the job ends, and that of a template "
            "is not; leave it out, or launch without --template_location"
        )
