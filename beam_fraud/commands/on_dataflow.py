"""What of a call cannot be where Dataflow's workers are, refused before anything is looked at."""

from __future__ import annotations

from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions

from beam_fraud.commands.batch import BatchOptions
from beam_fraud.commands.scoring import ScoringOptions
from beam_fraud.errors import UsageError
from beam_fraud.places import disk_of
from beam_fraud.runners.dataflow import (
    IN_IMAGE,
    WorkerPlace,
    is_dataflow,
    refuse_on_dataflow,
    template_location,
)
from beam_fraud.sinks.url import parse_sink


def refuse_batch(options: BatchOptions, beam_options: PipelineOptions) -> None:
    """Refuse what a job over files cannot have there; does nothing for another runner.

    Raises:
      UsageError: an option is missing, or names what workers do not see.
    """
    if not is_dataflow(beam_options):
        return
    places = [WorkerPlace("", file) for file in options.files]
    places += [WorkerPlace("--history", file) for file in options.history]
    places.append(WorkerPlace("--out", options.out, written=True))
    if isinstance(options, ScoringOptions):
        places += scoring_places(options)
        if template_location(beam_options):
            _refuse_what_needs_the_end(options)
    refuse_on_dataflow(beam_options, places)


def scoring_places(options: ScoringOptions) -> Sequence[WorkerPlace]:
    """The bundle and the sink, as workers see them."""
    fix = f"put it in a bucket, or in the image under {IN_IMAGE}"
    places = [WorkerPlace("--model", options.model, fix=fix)]
    sink = None if options.sink is None else parse_sink(options.sink)
    if sink is not None and disk_of(sink) is not None:
        other = "give postgresql:// or bigquery:"
        places.append(WorkerPlace("--sink", sink.describe(), on_disk=True, fix=other))
    return places


def _refuse_what_needs_the_end(options: ScoringOptions) -> None:
    """Whoever makes a template has gone when the job ends."""
    for name, given in (("--sink", options.sink), ("--alert", options.alerts)):
        if given:
            raise UsageError(
                f"{name}: needs the command to be there when the job ends, and that of a template "
                "is gone; leave it out, or launch without --template_location"
            )
