"""Plan `beam-fraud stream`, and check the plan before anything changes."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TextIO

import pyarrow as pa
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
)

from beam_fraud.alerts.channels.channel import Channel
from beam_fraud.cli.commands.chosen_model import ChosenModel
from beam_fraud.cli.commands.inputs import refuse_bundles
from beam_fraud.cli.commands.live_monitor import with_monitor
from beam_fraud.cli.commands.places import RunPlaces, refuse_shared_places
from beam_fraud.cli.commands.scoring import (
    plan_scoring,
    refuse_no_outbox,
    sink_of,
)
from beam_fraud.cli.commands.shadows import shadow_bundles, with_shadows
from beam_fraud.cli.commands.times import parse_duration
from beam_fraud.cli.options import ServeOptions, StreamOptions
from beam_fraud.errors import Code, UsageError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.features.velocity.columns import by_key
from beam_fraud.features.velocity.reach import WindowReach, look_back
from beam_fraud.models.registry.champion_watch import Windows
from beam_fraud.pipeline.batch import Scoring
from beam_fraud.pipeline.stream import Stream
from beam_fraud.records.event_span import event_span
from beam_fraud.records.time_settlement import refuse_contested
from beam_fraud.runners.call import Call
from beam_fraud.runners.checks import enforce
from beam_fraud.runners.runner import Runner
from beam_fraud.runners.submission import Submission
from beam_fraud.schema.duration import SECOND
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.schema.velocity import Velocity
from beam_fraud.sources.kafka.options import StreamTopics, refuse_topic_options
from beam_fraud.sources.segment import InputFile
from beam_fraud.sources.source import find_history, find_inputs
from beam_fraud.sources.watch.source import WatchedFiles
from beam_fraud.state.identity import DEFINITIONS, recorded_identity
from beam_fraud.state.velocity import History
from beam_fraud.storage.batch_outputs import new_run_id
from beam_fraud.storage.checkpoint import recorded_about
from beam_fraud.storage.database.connection import sqlite_url
from beam_fraud.storage.stream_outputs import StreamOutputs, object_stream_outputs
from beam_fraud.storage.urls import Place
from beam_fraud.transforms.deciders import Following
from beam_fraud.transforms.read import earlier_transactions

_LOG = logging.getLogger(__name__)
#: Shards of the state on a cluster; here one worker has all.
_SHARDS_ON_CLUSTER = 16


@dataclass(frozen=True)
class StreamPlan:
    """The checked plan of a stream."""

    stream: Stream
    scoring: Scoring
    channels: tuple[Channel, ...]
    #: Beam's options and the runner.
    submission: Submission
    #: Name of the source, for messages.
    what: str
    #: Identity: settings that must not change for the life of the state.
    about: Mapping[str, str]
    #: Destination of the pipeline.
    runner: Runner
    #: Warnings to log once the stream may start.
    warning: str | None

    @property
    def database(self) -> str | None:
        """URL of the outbox's database, or None."""
        return self.scoring.alerts_database


def plan(options: StreamOptions, console: TextIO) -> StreamPlan:
    """Check everything that can be checked without changing anything.

    Args:
      options: options of the call.
      console: stream of `--alert console:`.

    Raises:
      UsageError: an option is invalid.
      FraudError: the broker, the bundle, a sink or a channel cannot be used.
    """
    warm_up = warm_up_of(options)
    model = ChosenModel.of(options)
    places = RunPlaces.of(
        history=options.history,
        model=model.place,
        model_option=model.option,
        lists=options.lists,
        watch=options.watch,
        out=options.out,
    )
    places = replace(places, shadows=shadow_bundles(options, model))
    declared = _declared(options, places)
    if not 0 <= options.rule_limit <= 1:
        raise UsageError(
            f"--rule-limit {options.rule_limit:g}: must be from 0 to 1", Code.OPTION_VALUE
        )
    if not options.shadow:
        refuse_unused_limit(options)
    submission = Submission.of(options.beam_args, workers=1, streaming=True)
    beam_options = submission.options
    outputs = _outputs(places.out, beam_options)
    recorded = _recorded(outputs, submission)
    model = model.as_recorded(options, recorded)
    places = replace(places, model=model.place)
    sink = sink_of(options)
    refuse_no_outbox(sink, options.alerts, outputs)
    call = Call(
        submission,
        streaming=True,
        places=places.of_workers(sink, declared.worker_files),
        until_idle=options.until_idle is not None,
        attended=["--alert"] * bool(options.alerts),
    )
    runner = enforce(call).runner
    here = runner.local
    refuse_bundles(places.history)
    planned = plan_scoring(
        options,
        model,
        sink,
        outputs,
        beam_options,
        console,
        here=here,
        streaming=True,
    )
    planned = with_shadows(planned, options, model, here=here, streaming=True)
    planned = with_monitor(planned, options)
    features, sink = planned.features, planned.scoring.sink
    first = model.windows(recorded, features)
    labels_database = None
    if options.labels_topic is not None:
        database = None if sink is None else sink.database
        labels_database = database or _beside(outputs)
        _warn_of_keys(features)
    lateness = parse_duration("--lateness", options.lateness)
    if declared.kafka is not None:
        refuse_contested(features.schema, "a message")
    stream = Stream(
        source=declared.source(
            features.schema,
            "known"
            if any(spec.needs_labels for spec in (*features.velocity, *first))
            else "ignored",
            outputs,
            here=here,
            reordered=options.reorder is not None,
            until_idle=_until_idle(options),
            lateness=lateness,
        ),
        features=features,
        outputs=outputs,
        run_id=new_run_id(),
        here=here,
        checkpoints=submission.takes_checkpoints,
        finalize_seconds=submission.finalize_seconds,
        repeats_nothing=submission.repeats_nothing,
        shards=options.shards or (1 if here else _SHARDS_ON_CLUSTER),
        dedupe_horizon=parse_duration("--dedupe-horizon", options.dedupe_horizon),
        lateness=lateness,
        ahead=parse_duration("--max-ahead", options.max_ahead),
        reorder=None if options.reorder is None else options.reorder / 1000,
        roll_rows=options.roll_rows,
        roll_seconds=options.roll_seconds,
        labels_database=labels_database,
        kafka=declared.kafka,
        registry=declared.registry,
        out_topic=options.out_topic,
        out_form=options.out_format,
        dead_letter_topic=options.dead_letter_topic,
        rule_limit=options.rule_limit,
        windows=first,
        warm_up=warm_up,
    )
    history = find_history(places.history, (), features.schema, labels=stream.labels)
    kept = outputs.directory if here else None
    following = _following(options, model, stream, planned.scoring, kept)
    earlier = earlier_anew(places.history, features.schema, stream.labels)
    stream = replace(stream, history=tuple(history), following=following, earlier=earlier)
    bundle = planned.scoring.bundle.place
    refuse_shared_places(outputs, sink, planned.channels, stream.history, bundle, places.watch)
    outputs.check(here=here, taken_up=submission.from_savepoint)
    planned.check(going_on=here and outputs.checkpoint.exists())
    goes_on = (here and outputs.checkpoint.exists()) or submission.continues
    declared.check_written()
    return StreamPlan(
        stream=stream,
        scoring=planned.scoring,
        channels=planned.channels,
        submission=submission,
        what=declared.shown,
        about=declared.identity() | _about(stream) | _steps(stream, planned.scoring, runner),
        runner=runner,
        warning=None if goes_on else windows_warning(features, stream.history),
    )


def _recorded(outputs: StreamOutputs, submission: Submission) -> Mapping[str, str]:
    """Return the identity of the stream whose state goes on; empty without one."""
    if submission.runner.local:
        return recorded_about(outputs.checkpoint)
    return recorded_identity(outputs) if submission.continues else {}


def _following(
    options: StreamOptions,
    model: ChosenModel,
    stream: Stream,
    scoring: Scoring,
    kept: Path | None,
) -> Following | None:
    """Return how workers follow the registry and, on this machine, the rules file."""
    choice = model.choice(options, here=stream.here)
    if choice is None:
        return None
    keys: frozenset[tuple[str, ...]] | None = frozenset()
    if model.registry is not None:
        keys = None if stream.takes_keys else frozenset(by_key(stream.first))
    instead = "a stream with another --out and --history"
    return Following(
        choice,
        Windows(stream.features, "stream", instead, stream.labels, keys),
        options.max_microseconds,
        scoring.alerts_database,
        scoring.channels,
        kept,
        stream.first,
        stream.checkpoint,
    )


def earlier_anew(history: Sequence[Place], schema: Schema, labels: Labels) -> History | None:
    """Return what finds and reads the earlier transactions again; None without `--history`.

    Files may have come since the start.
    """
    if not history:
        return None
    return partial(_earlier, tuple(history), schema, labels)


def _earlier(history: Sequence[Place], schema: Schema, labels: Labels) -> Iterator[pa.RecordBatch]:
    files = find_inputs(history, schema, labels=labels)
    return earlier_transactions(files, schema, labels, count_left_out=False)


def _outputs(out: Place, beam_options: PipelineOptions) -> StreamOutputs:
    if out.local is not None:
        return StreamOutputs(out.local)
    update = beam_options.view_as(GoogleCloudOptions).update
    return object_stream_outputs(out.name, update=bool(update))


def _beside(outputs: StreamOutputs) -> str:
    """Return the database of labels without a database sink."""
    if outputs.outbox is None:
        raise UsageError(
            f"--labels-topic: labels are kept in a database, and --out {outputs.shown} can hold "
            "none; give --sink postgresql://USER@HOST/DATABASE",
            Code.SINK_UNSUITED,
        )
    return sqlite_url(outputs.outbox)


def _declared(options: StreamOptions, places: RunPlaces) -> StreamTopics | WatchedFiles:
    """Return what the stream reads, which checks its own options."""
    if options.kafka is not None and options.watch is not None:
        raise UsageError(
            "--watch: not together with --kafka; give one of them", Code.OPTION_CONFLICT
        )
    if options.kafka is not None:
        return StreamTopics.of(options)
    if places.watch is None:
        raise UsageError("give --kafka HOST:PORT and --topic, or --watch DIR", Code.OPTION_MISSING)
    refuse_topic_options(options, StreamOptions.start, "--watch")
    return WatchedFiles(places.watch)


def _warn_of_keys(features: FeatureSet) -> None:
    for definition in features.velocity:
        unknown = set(definition.key) - {"account_id", "merchant_id"}
        if definition.needs_labels and unknown:
            _LOG.warning(
                "labels carry no %s: risk of %s will not see those of --labels-topic",
                ", ".join(sorted(unknown)),
                " and ".join(definition.key),
            )


def windows_warning(features: FeatureSet, history: Sequence[InputFile]) -> str | None:
    """Return a warning if the history of new windows does not fill them."""
    horizon = look_back(features.velocity)
    if not horizon:
        return None
    span = event_span(history, features.schema)
    # What follows continues where the history ends.
    begin, end = (None, None) if span is None else span
    return WindowReach(horizon, bool(history), begin, end).warning()


def refuse_unused_limit(options: StreamOptions | ServeOptions) -> None:
    """Refuse a limit of champions without a registry.

    Raises:
      UsageError: `--max-microseconds` is given without `--registry`.
    """
    if options.max_microseconds is not None and options.registry is None:
        raise UsageError(
            "--max-microseconds: needs --registry, whose champions it limits", Code.OPTION_CONFLICT
        )


def warm_up_of(options: StreamOptions | ServeOptions) -> int | None:
    """Return `--warm-up` in microseconds, or None.

    Raises:
      UsageError: it is no duration, or given without `--registry`.
    """
    if options.warm_up is None:
        return None
    if options.registry is None:
        raise UsageError(
            "--warm-up: needs --registry, whose champions wait for it", Code.OPTION_CONFLICT
        )
    return parse_duration("--warm-up", options.warm_up)


def _until_idle(options: StreamOptions) -> float | None:
    """Return the idle limit, extended until waiting rows have been emitted."""
    if options.until_idle is None or options.reorder is None:
        return options.until_idle
    return max(options.until_idle, 2 * options.reorder / 1000 + 0.5)


def _about(stream: Stream) -> dict[str, str]:
    return {
        **identity_of_windows(stream.features.schema, stream.first, stream.lateness),
        "number of shards": str(stream.shards),
        "order": "by event time" if stream.reorder is not None else "of arrival",
    }


def _steps(stream: Stream, scoring: Scoring, runner: Runner) -> dict[str, str]:
    """Return the steps of a graph that options add, where a savepoint needs the same ones.

    Beam numbers the steps, and a timer in a savepoint of Flink names the number of its step.
    """
    if stream.here or runner.dataflow:
        return {}
    added = []
    if stream.limits_rules(scoring):
        added.append("rules")
    if stream.following is not None:
        added.append("registry")
    if stream.shadows(scoring):
        added.append("shadow")
    if scoring.monitored is not None:
        added.append("monitor")
    if scoring.linked is not None:
        added.append("links")
    return {"set of steps": ", ".join(added) or "neither rules, registry nor shadow"}


def identity_of_windows(
    schema: Schema, definitions: Sequence[Velocity], lateness: int
) -> dict[str, str]:
    """Return settings that must not change for the life of windows.

    Args:
      schema: the schema of the transactions.
      definitions: velocity definitions of the start.
      lateness: microseconds that a row may be late.
    """
    whole = text = json.dumps([spec.to_dict() for spec in definitions])
    if (conversion := schema.conversion) is not None:
        # Newer rates do not change earlier amounts, another currency would.
        text += conversion.to
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return {
        "set of velocity definitions": f"{len(definitions)}, {digest}",
        "lateness": f"{lateness // SECOND} s",
        DEFINITIONS: whole,
    }
