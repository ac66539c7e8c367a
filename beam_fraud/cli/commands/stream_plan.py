"""Plan `beam-fraud stream`, and check the plan before anything changes."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
)

from beam_fraud.alerts.channels.channel import Channel
from beam_fraud.cli.commands.inputs import kafka_settings, refuse_bundles
from beam_fraud.cli.commands.places import refuse_shared_places
from beam_fraud.cli.commands.scoring import plan_scoring, refuse_no_outbox, sink_of
from beam_fraud.cli.commands.target import target_of_stream
from beam_fraud.cli.commands.times import parse_duration
from beam_fraud.cli.options import StreamOptions
from beam_fraud.errors import Code, UsageError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.features.velocity.reach import WindowReach, look_back
from beam_fraud.pipeline.batch import Scoring
from beam_fraud.pipeline.stream import Stream
from beam_fraud.records.event_span import event_span
from beam_fraud.runners.dataflow.job import refuse_update_without_job
from beam_fraud.runners.runner import Runner
from beam_fraud.runners.submission import Submission
from beam_fraud.schema.duration import SECOND
from beam_fraud.schema.schema import Labels
from beam_fraud.sources.kafka.settings import KafkaSettings
from beam_fraud.sources.source import find_history
from beam_fraud.sources.watch.source import WatchSource
from beam_fraud.storage.batch_outputs import new_run_id
from beam_fraud.storage.database.connection import sqlite_url
from beam_fraud.storage.stream_outputs import StreamOutputs, object_stream_outputs
from beam_fraud.storage.urls import Place

if TYPE_CHECKING:
    from beam_fraud.sources.kafka.source import KafkaSource

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
    _refuse_contradictions(options)
    if not 0 <= options.rule_limit <= 1:
        raise UsageError(
            f"--rule-limit {options.rule_limit:g}: must be from 0 to 1", Code.OPTION_VALUE
        )
    submission = Submission.of(options.beam_args, workers=1, streaming=True)
    beam_options = submission.options
    outputs = _outputs(options, beam_options)
    sink = sink_of(options)
    refuse_no_outbox(sink, options.alerts, outputs)
    runner = target_of_stream(options, sink, submission).runner
    here = runner.local
    _refuse_workers(beam_options, here)
    refuse_bundles(options.history)
    planned = plan_scoring(options, sink, outputs, beam_options, console, here=here, streaming=True)
    features, sink = planned.features, planned.scoring.sink
    labels_database = None
    if options.labels_topic is not None:
        database = None if sink is None else sink.database
        labels_database = database or _beside(outputs)
        _warn_of_keys(features)
    settings = _kafka(options)
    lateness = parse_duration("--lateness", options.lateness)
    stream = Stream(
        source=_source(options, settings, features, outputs, here=here, lateness=lateness),
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
        kafka=settings,
        out_topic=options.out_topic,
        dead_letter_topic=options.dead_letter_topic,
        rule_limit=options.rule_limit,
    )
    history = find_history(options.history, (), features.schema, labels=stream.labels)
    stream = replace(stream, history=tuple(history))
    watched = None if options.watch is None else Path(options.watch)
    bundle = planned.scoring.bundle.path
    refuse_shared_places(outputs, sink, planned.channels, stream.history, bundle, watched)
    outputs.check(here=here, taken_up=submission.from_savepoint)
    refuse_update_without_job(beam_options)
    planned.check(going_on=here and outputs.checkpoint.exists())
    goes_on = (here and outputs.checkpoint.exists()) or submission.continues
    about = _about(options, stream)
    if settings is not None:
        from beam_fraud.cli.commands.stream_topics import about_read_topics, check_written_topics

        check_written_topics(options, settings)
        about |= about_read_topics(options, settings)
    return StreamPlan(
        stream=stream,
        scoring=planned.scoring,
        channels=planned.channels,
        submission=submission,
        what=f"topic {options.topic}" if options.watch is None else options.watch,
        about=about,
        runner=runner,
        warning=None if goes_on else _windows_warning(stream),
    )


def _outputs(options: StreamOptions, beam_options: PipelineOptions) -> StreamOutputs:
    place = Place.parse(options.out)
    if place.local is not None:
        return StreamOutputs(place.local)
    update = beam_options.view_as(GoogleCloudOptions).update
    return object_stream_outputs(place.name, update=bool(update))


def _beside(outputs: StreamOutputs) -> str:
    """Return the database of labels without a database sink."""
    if outputs.outbox is None:
        raise UsageError(
            f"--labels-topic: labels are kept in a database, and --out {outputs.shown} can hold "
            "none; give --sink postgresql://USER@HOST/DATABASE",
            Code.SINK_UNSUITED,
        )
    return sqlite_url(outputs.outbox)


def _refuse_contradictions(options: StreamOptions) -> None:
    if options.kafka is None and options.watch is None:
        raise UsageError("give --kafka HOST:PORT and --topic, or --watch DIR", Code.OPTION_MISSING)
    if options.kafka is not None and options.watch is not None:
        raise UsageError(
            "--watch: not together with --kafka; give one of them", Code.OPTION_CONFLICT
        )
    if options.kafka is not None and options.topic is None:
        raise UsageError("--topic: say which topic the transactions are in", Code.OPTION_MISSING)
    if options.watch is not None:
        for name, value in (
            ("--topic", options.topic),
            ("--labels-topic", options.labels_topic),
            ("--out-topic", options.out_topic),
            ("--dead-letter-topic", options.dead_letter_topic),
            ("--kafka-config", options.kafka_config),
            ("--kafka-properties", options.kafka_properties),
            ("--start", options.start != StreamOptions.start),
        ):
            if value:
                raise UsageError(
                    f"{name}: needs --kafka HOST:PORT, not --watch", Code.OPTION_CONFLICT
                )
    topics = [
        ("--topic", options.topic),
        ("--labels-topic", options.labels_topic),
        ("--out-topic", options.out_topic),
        ("--dead-letter-topic", options.dead_letter_topic),
    ]
    owners: dict[str, str] = {}
    for name, topic in topics:
        if topic is not None and topic in owners:
            raise UsageError(
                f"{name} {topic}: is {owners[topic]} already; give another topic",
                Code.PLACE_SHARED,
            )
        if topic is not None:
            owners[topic] = name


def _refuse_workers(beam_options: PipelineOptions, here: bool) -> None:
    direct = beam_options.view_as(DirectOptions)
    if here and (direct.direct_num_workers != 1 or direct.direct_running_mode != "in_memory"):
        raise UsageError(
            "--direct_num_workers, --direct_running_mode: a stream on this machine runs in one "
            "process; leave them out, or give another --runner",
            Code.RUNNER_OPTION,
        )


def _warn_of_keys(features: FeatureSet) -> None:
    for definition in features.velocity:
        unknown = set(definition.key) - {"account_id", "merchant_id"}
        if definition.needs_labels and unknown:
            _LOG.warning(
                "labels carry no %s: risk of %s will not see those of --labels-topic",
                ", ".join(sorted(unknown)),
                " and ".join(definition.key),
            )


def _windows_warning(stream: Stream) -> str | None:
    """Return a warning if the history of a new stream does not fill its windows."""
    horizon = look_back(stream.features.velocity)
    if not horizon:
        return None
    span = event_span(stream.history, stream.features.schema)
    # The stream continues where the history ends.
    begin, end = (None, None) if span is None else span
    return WindowReach(horizon, bool(stream.history), begin, end).warning()


def _kafka(options: StreamOptions) -> KafkaSettings | None:
    if options.kafka is None:
        return None
    return kafka_settings(options.kafka, options)


def _source(
    options: StreamOptions,
    settings: KafkaSettings | None,
    features: FeatureSet,
    outputs: StreamOutputs,
    *,
    here: bool,
    lateness: int,
) -> KafkaSource | WatchSource:
    """Return the source; `resume` sets the positions of the last run later."""
    checkpoint = outputs.checkpoint if here else None
    until_idle = _until_idle(options)
    if settings is None:
        assert options.watch is not None
        needed = any(v.needs_labels for v in features.velocity)
        labels: Labels = "known" if needed else "ignored"
        source = WatchSource(
            directory=str(Path(options.watch).absolute()),
            schema=features.schema,
            labels=labels,
            stop_file=str(outputs.stop_file),
            until_idle=until_idle,
            checkpoint=checkpoint,
        )
        source.check()
        return source
    # Imported here: watching a directory needs no client library.
    from beam_fraud.cli.commands.stream_topics import topic_source

    return topic_source(
        options,
        settings,
        features.schema,
        outputs,
        here=here,
        until_idle=until_idle,
        lateness=lateness,
    )


def _until_idle(options: StreamOptions) -> float | None:
    """Return the idle limit, extended until waiting rows have been emitted."""
    if options.until_idle is None or options.reorder is None:
        return options.until_idle
    return max(options.until_idle, 2 * options.reorder / 1000 + 0.5)


def _about(options: StreamOptions, stream: Stream) -> dict[str, str]:
    definitions = json.dumps([spec.to_dict() for spec in stream.features.velocity])
    digest = hashlib.sha256(definitions.encode()).hexdigest()[:8]
    return {
        "source": f"--watch {options.watch}" if options.watch else f"topic {options.topic}",
        "set of velocity definitions": f"{len(stream.features.velocity)}, {digest}",
        "number of shards": str(stream.shards),
        "order": "by event time" if stream.reorder is not None else "of arrival",
        "lateness": f"{stream.lateness // SECOND} s",
    }
