"""Plan `serve`: check everything that can be checked before the server starts."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
from apache_beam.options.pipeline_options import PipelineOptions

from beam_fraud.cli.commands.chosen_model import ChosenModel
from beam_fraud.cli.commands.inputs import refuse_bundles
from beam_fraud.cli.commands.listening import access_log_of, listen_of
from beam_fraud.cli.commands.live_monitor import with_monitor
from beam_fraud.cli.commands.places import RunPlaces, refuse_shared_places
from beam_fraud.cli.commands.scoring import (
    ScoringPlan,
    plan_scoring,
    refuse_no_outbox,
    sink_of,
)
from beam_fraud.cli.commands.shadows import with_shadows
from beam_fraud.cli.commands.stream_plan import (
    earlier_anew,
    identity_of_windows,
    refuse_unused_limit,
    warm_up_of,
    windows_warning,
)
from beam_fraud.cli.commands.times import parse_duration, parse_seconds
from beam_fraud.cli.options import ServeOptions
from beam_fraud.errors import Code, UsageError, need_extras
from beam_fraud.features.velocity.columns import by_key
from beam_fraud.models.bundle import Bundle
from beam_fraud.models.registry.choice import Choice
from beam_fraud.models.registry.registry import open_registry
from beam_fraud.records.time_settlement import refuse_contested
from beam_fraud.schema.velocity import Velocity
from beam_fraud.serve.drift import DriftCounters
from beam_fraud.serve.fallback import Fallback
from beam_fraud.serve.freshness import Staleness
from beam_fraud.serve.http.access_log import AccessLogSettings
from beam_fraud.serve.http.limits import Limits
from beam_fraud.serve.http.listen import Listen
from beam_fraud.serve.queue import Pace
from beam_fraud.serve.read_ahead import read_ahead
from beam_fraud.serve.state import StateSettings
from beam_fraud.serve.windows import WindowSettings
from beam_fraud.sources.kafka.options import StreamTopics, refuse_topic_options
from beam_fraud.sources.source import find_history
from beam_fraud.state.window_sets import Filling
from beam_fraud.storage.batch_outputs import new_run_id
from beam_fraud.storage.checkpoint import recorded_about
from beam_fraud.storage.stream_outputs import ServerOutputs
from beam_fraud.transforms.read import earlier_transactions

#: File under `--state` with the number of servers that share the accounts.
SPLIT = "workers.json"
_MILLISECONDS = re.compile(r"([0-9]+)ms")


@dataclass(frozen=True)
class ServePlan:
    """The checked plan of a server."""

    #: Bundle, rules, sink and channels.
    scored: ScoringPlan
    #: What lies under `--state`.
    outputs: ServerOutputs
    #: Settings of the state, without deliveries.
    settings: StateSettings
    #: Topics to follow, or None.
    topics: StreamTopics | None
    #: Limits of time and load.
    pace: Pace
    #: Decisions without a score in time.
    fallback: Fallback
    #: From which age windows are not used, or None.
    staleness: Staleness | None
    #: Address and certificates.
    listen: Listen
    #: Limits of requests.
    limits: Limits
    #: The access log.
    log: AccessLogSettings
    #: This process, in a database.
    run_id: str
    #: Whether a state exists already.
    going_on: bool
    #: Warning about windows that are not full, or None.
    warning: str | None
    #: Where it is written what decides; None if nothing may change.
    choice: Choice | None
    #: Maximum of microseconds per row of a new champion's prediction, and of a challenger in
    #: shadow; or None.
    max_microseconds: float | None
    #: Keys whose windows can be filled for another model; None for all (`champion_watch.Windows`).
    keys: frozenset[tuple[str, ...]] | None


def plan(options: ServeOptions) -> ServePlan:
    """Check everything that can be checked without changing anything.

    Raises:
      UsageError: an option is invalid.
      FraudError: the broker, the bundle, a sink or a channel cannot be used.
    """
    need_extras(("uvicorn", "httptools", "uvloop"), "serve")
    if not options.shadow:
        refuse_unused_limit(options)
    warm_up = warm_up_of(options)
    model = ChosenModel.of(options)
    places = RunPlaces.of(history=options.history, out=options.state)
    if places.out.local is None:
        raise UsageError(
            f"--state {places.out.name}: a server keeps its state on this machine; give a local "
            "directory",
            Code.OUTPUT_NAME,
        )
    outputs = ServerOutputs(places.out.local, option="--state")
    recorded = recorded_about(outputs.checkpoint)
    model = model.as_recorded(options, recorded)
    topics = None
    if options.kafka is not None:
        topics = StreamTopics.of(options)
    else:
        refuse_topic_options(options, ServeOptions.start, "")
    sink = sink_of(options)
    refuse_no_outbox(sink, options.alerts, outputs)
    refuse_bundles(places.history)
    scored = plan_scoring(
        options,
        model,
        sink,
        outputs,
        PipelineOptions(),
        sys.stderr,
        here=True,
        streaming=True,
    )
    scored = with_shadows(scored, options, model, here=True, streaming=True)
    scored = with_monitor(scored, options)
    features, sink = scored.features, scored.scoring.sink
    refuse_contested(features.schema, "a request")
    history = tuple(find_history(places.history, (), features.schema, labels=features.labels))
    bundle = scored.scoring.bundle
    refuse_shared_places(outputs, sink, scored.channels, history, bundle.place)
    outputs.check(here=True)
    going_on = outputs.checkpoint.exists()
    scored.check(going_on=going_on)
    lateness = parse_duration("--lateness", options.lateness)
    read_history = partial(earlier_transactions, history, features.schema, features.labels)
    archive = None if sink is None else sink.archive
    first = model.windows(recorded, features)
    filling = None
    if model.registry is not None:
        earlier = earlier_anew(places.history, features.schema, features.labels)
        filling = Filling(
            history=None if earlier is None else partial(read_ahead, earlier),
            warm_up=warm_up,
            lateness=lateness,
        )
    decides = scored.scoring.decider(features).pair
    settings = StateSettings(
        checkpoint=outputs.checkpoint,
        scores=_local(outputs.archive("scores")),
        dead_letters=_local(outputs.archive("dead_letters")),
        windows=WindowSettings(
            features=features,
            first=first,
            history=partial(read_history, count_left_out=False) if history else None,
            filling=filling,
            dedupe_horizon=parse_duration("--dedupe-horizon", options.dedupe_horizon),
            lateness=lateness,
        ),
        thresholds=bundle.thresholds,
        rules=scored.scoring.rules,
        in_force=msgspec.json.encode(decides).decode(),
        ahead=parse_duration("--max-ahead", options.max_ahead),
        rule_limit=options.rule_limit,
        roll_rows=options.roll_rows,
        roll_seconds=options.roll_seconds,
        audit=scored.scoring.audit,
        flagged=archive,
        drift=None
        if scored.scoring.monitored is None
        else DriftCounters(bundle, scored.scoring.monitored, _named(model)),
        keeps_inputs=options.keep_features,
        about=identity_of_windows(features.schema, first, lateness) | {"source": "requests"},
    )
    return ServePlan(
        scored=scored,
        outputs=outputs,
        settings=settings,
        topics=topics,
        pace=_pace(options),
        fallback=Fallback.parse(options.on_timeout),
        staleness=_staleness(options),
        listen=listen_of(options),
        limits=Limits(rows=options.max_rows),
        log=access_log_of(options),
        run_id=new_run_id(),
        going_on=going_on,
        warning=None if going_on else windows_warning(features, history),
        choice=model.choice(options, here=True),
        max_microseconds=options.max_microseconds,
        keys=_keys(options, first, outputs),
    )


def _keys(
    options: ServeOptions, first: Sequence[Velocity], outputs: ServerOutputs
) -> frozenset[tuple[str, ...]] | None:
    """Return the keys whose windows can be filled; None for all."""
    if options.registry is None or options.shadow:
        # What waits for challengers has the columns of the start.
        return frozenset()
    shares = (outputs.directory.parent / SPLIT).exists()
    # A server that has some of the accounts sees all rows of no other key.
    return frozenset((*by_key(first), ("account_id",))) if shares else None


def _named(model: ChosenModel) -> Callable[[str], Bundle] | None:
    """Return a function that opens another model of the registry by its id; None without one."""
    registry = model.registry
    if registry is None:
        return None
    place = registry.place
    return lambda model_id: open_registry(place).bundle(model_id)


def _local(place: Path | str) -> Path:
    assert isinstance(place, Path)
    return place


def _pace(options: ServeOptions) -> Pace:
    deadline = _deadline(options.deadline)
    # Where the event loop waits for the disk, nothing could answer by the deadline.
    return Pace(deadline, options.max_waiting, in_loop=deadline is None)


def _deadline(text: str | None) -> float | None:
    """Return seconds."""
    if text is None:
        return None
    milliseconds = _MILLISECONDS.fullmatch(text)
    seconds = int(milliseconds[1]) / 1000 if milliseconds else parse_seconds("--deadline", text)
    if not seconds:
        raise UsageError("--deadline 0: give a time such as 50ms", Code.TIME_INVALID)
    return seconds


def _staleness(options: ServeOptions) -> Staleness | None:
    if options.max_staleness is None:
        return None
    return Staleness(parse_seconds("--max-staleness", options.max_staleness), options.on_stale)
