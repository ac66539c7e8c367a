"""`beam-fraud serve`: answer transactions over HTTP."""

from __future__ import annotations

import gc
import importlib
import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from beam_fraud.alerts.dispatch import Dispatcher
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.alerts.queue import Notice
from beam_fraud.cli.commands import serve_workers
from beam_fraud.cli.commands.live_figures import Sampled, sampling
from beam_fraud.cli.commands.live_monitor import Judged, gauges_of, judging
from beam_fraud.cli.commands.scoring import audited_rows
from beam_fraud.cli.commands.serve_model import (
    Engines,
    OpenModel,
    Renewal,
    about,
    api_of,
    build_of,
    shadow_of,
    watch_of,
)
from beam_fraud.cli.commands.serve_pages import pages_beside, pages_of
from beam_fraud.cli.commands.serve_plan import ServePlan, plan
from beam_fraud.cli.commands.serve_together import joined
from beam_fraud.cli.commands.side_process import side_process
from beam_fraud.cli.options import ServeOptions
from beam_fraud.cli.terminal.interruption import drained_by_signals
from beam_fraud.cli.terminal.summary import shadow_lines
from beam_fraud.decisions.rules.kept import keep_rules
from beam_fraud.errors import Code, FraudError
from beam_fraud.monitoring.counters import (
    ROWS_DEAD,
    ROWS_DUPLICATE,
    ROWS_FLAGGED,
    ROWS_SCORED,
    Count,
)
from beam_fraud.monitoring.otlp import OtlpTarget, exporting
from beam_fraud.serve.deliveries import PATIENCE, Deliveries, Places
from beam_fraud.serve.engine import Engine
from beam_fraud.serve.follower import BLOCK_MESSAGES, Follower
from beam_fraud.serve.freshness import Freshness
from beam_fraud.serve.http.openapi import Api
from beam_fraud.serve.http.tokens import TokenSource
from beam_fraud.serve.metrics import Metrics, count
from beam_fraud.serve.queue import PredictionQueue
from beam_fraud.serve.shadow import ShadowScoring, finish_shadows
from beam_fraud.serve.state import ServerState
from beam_fraud.state.rule_share import MutedRule
from beam_fraud.storage.atomic import make_directory
from beam_fraud.storage.batch_outputs import SHADOW
from beam_fraud.storage.checkpoint import LocalCheckpoint
from beam_fraud.storage.database.connection import prepare_database, sqlite_url
from beam_fraud.storage.stream_outputs import claim_archives
from beam_fraud.transforms.alert import notice_of

if TYPE_CHECKING:
    from beam_fraud.serve.http.server import HttpServer

_LOG = logging.getLogger(__name__)
#: Seconds after which a thread lets another run: the event loop waits that long for the engine.
_SWITCH_SECONDS = 0.0001
#: Keeps processors awake while a process has it open, and what it is asked: microseconds, int32.
_LATENCY, _NO_LATENCY = Path("/dev/cpu_dma_latency"), bytes(4)


def _announce(url: str) -> None:
    _LOG.info("answering at %s/predict; see %s/docs", url, url)


def run(options: ServeOptions, answering: Callable[[str], None] = _announce) -> dict[str, object]:
    """Answer requests until SIGINT or SIGTERM.

    Args:
      options: the options.
      answering: called with the server's URL when it answers.

    Returns:
      The address, and how many rows were answered.

    Raises:
      UsageError: an option is invalid.
      FraudError: the bundle, the state, the port or an output cannot be used.
    """
    if options.workers > 1:
        return serve_workers.run(options, run)
    started = time.monotonic()
    serve_workers.refuse_split(Path(options.state))
    with ExitStack() as stack:
        side = None
        if options.registry is not None or options.rules is not None:
            with suppress(ImportError):
                # The plan says what is missing.
                importlib.import_module("beam_fraud.serve.http.server")
            # Opens and checks what changes.
            side = stack.enter_context(side_process())
        planned, pages, target = plan(options), pages_of(options), OtlpTarget.of(options.otlp)
        metrics, counted = Metrics(build=build_of(planned.scored)), Counter[str]()
        predictions = PredictionQueue(planned.pace, metrics, about(planned.scored))
        scoring, features = planned.scored.scoring, planned.scored.features
        api = api_of(scoring.bundle, features, scoring.rules)
        # Before anything is written: tokens may be missing, and the port may be taken.
        server = _server(planned, predictions, api, metrics)
        if options.awake:
            stack.enter_context(_awake())
        shown = stack.enter_context(pages_beside(pages))
        planned.outputs.begin()
        stack.callback(planned.outputs.release)
        keep_rules(planned.outputs.directory, planned.scored.scoring.rules)
        _claim(planned)
        deliveries = Deliveries(_places(planned))
        stack.callback(deliveries.close)
        dispatcher = _dispatcher(planned)
        if dispatcher is not None:
            stack.enter_context(dispatcher.running())
        parts = _parts(planned, predictions, api, deliveries, partial(_count, counted, metrics))
        # The example is no row of anybody.
        counted.clear()
        metrics.outcomes.clear()
        shadow = parts.engine.state.shadow
        if shadow is not None:
            metrics.shadow_totals = shadow.totals
        # The last metrics are sent after the last days are judged.
        stack.enter_context(exporting(target, "serve", metrics.collect))
        if options.among is None:
            _watch(stack, options, planned, metrics, parts.engine.state, shown=pages is not None)
        else:
            stack.enter_context(joined(Path(options.among), planned.outputs, metrics))
        state = parts.engine.state
        watch = watch_of(
            planned, parts.engines, server, deliveries, metrics, parts.shadow, state, side
        )
        renewed = (lambda: None) if watch is None else Renewal(watch, parts.engine.state.windows)
        predictions.start(parts.engine, parts.freshness.refused, renewed)
        if watch is not None:
            watch.start()
            stack.callback(watch.stop)
        follower = parts.follower
        stack.enter_context(drained_by_signals(server.stop))
        if follower is not None:
            follower.start()
        # What is loaded by now lives as long as the process: no collection need look at it.
        gc.collect()
        gc.freeze()
        gc.disable()
        stack.callback(gc.enable)
        stack.callback(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(_SWITCH_SECONDS)
        server.run(lambda: answering(server.url))
        if follower is not None:
            follower.close()
    return {
        "url": server.url,
        "rows_scored": counted[ROWS_SCORED],
        "rows_flagged": counted[ROWS_FLAGGED],
        **audited_rows(planned.scored.scoring.audit, counted),
        "rows_dead": counted[ROWS_DEAD],
        "rows_duplicate": counted[ROWS_DUPLICATE],
        "degraded": dict(metrics.degraded),
        "shed": sum(metrics.shed.values()),
        "seconds": round(time.monotonic() - started, 1),
        **({} if shadow is None else shadow.totals().about()),
        "model_id": predictions.about()["model_id"],
        "state": str(planned.outputs.directory),
        **shown,
    }


def render(result: dict[str, object]) -> str:
    """Return the result as a line, and one for each challenger in shadow."""
    scored, flagged = result["rows_scored"], result["rows_flagged"]
    dead, repeated = result["rows_dead"], result["rows_duplicate"]
    answered = (
        f"Answered {scored:,} transactions in {result['seconds']} s, {flagged:,} of them flagged; "
        f"{dead:,} dead letters and {repeated:,} repeated transactions."
    )
    return "\n".join([answered, *shadow_lines(result)])


def _awake() -> BinaryIO:
    """Keep the processors from sleep states until the file is closed.

    Linux keeps to the shortest latency that any process asks for while it has the file open
    (Documentation/power/pm_qos_interface.rst).

    Raises:
      FraudError: the system does not allow it.
    """
    try:
        file = open(_LATENCY, "wb", buffering=0)  # noqa: SIM115
        file.write(_NO_LATENCY)
    except OSError as error:
        raise FraudError(
            f"--awake: {_LATENCY} cannot be written ({error.strerror}); give the server that "
            "right, or leave the option out",
            Code.SYSTEM_REFUSAL,
        ) from None
    return file


def _claim(planned: ServePlan) -> None:
    """Create the archives, and check that no other process wrote there."""
    sink = planned.scored.scoring.sink
    archives = [planned.settings.scores, planned.settings.dead_letters]
    if sink is not None and sink.archive is not None:
        make_directory(sink.archive)
        archives.append(sink.archive)
    checkpoint = LocalCheckpoint(planned.outputs.checkpoint)
    try:
        claim_archives(archives, planned.outputs.directory, checkpoint)
    finally:
        checkpoint.close()


def _server(
    planned: ServePlan, predictions: PredictionQueue, api: Api, metrics: Metrics
) -> HttpServer:
    """Read the tokens and bind the port."""
    # What it imports is an extra, which the plan has found.
    from beam_fraud.serve.http.server import HttpServer

    return HttpServer(
        predictions,
        api,
        planned.listen,
        limits=planned.limits,
        tokens=TokenSource.of_environment(),
        metrics=metrics,
        log=planned.log,
    )


class _Parts(NamedTuple):
    """The parts behind the queue of a server."""

    engine: Engine
    #: Builds the engines of other models.
    engines: Engines
    follower: Follower | None
    freshness: Freshness
    #: Scores in shadow, or None.
    shadow: ShadowScoring | None


def _parts(
    planned: ServePlan,
    predictions: PredictionQueue,
    api: Api,
    deliveries: Deliveries,
    counting: Count,
) -> _Parts:
    """Restore the state, load the model, and score an example."""
    shadow = shadow_of(planned, deliveries)
    settings = replace(planned.settings, deliveries=deliveries.by_backlog, shadow=shadow)
    if shadow is None:
        last = finish_shadows(planned.outputs.shadow_checkpoint, planned.outputs.directory / SHADOW)
        settings = replace(settings, last_shadowed=last)
    state = ServerState(settings, counting)
    features = planned.scored.features
    follows = planned.topics is not None
    # Without windows nothing can be stale.
    limit = planned.staleness if features.velocity else None
    freshness = Freshness(limit, state.stopped_for, follows=follows)
    follower = None
    if planned.topics is not None:
        follower = _follower(planned, state, predictions, freshness)
    scoring = planned.scored.scoring
    engines = Engines(
        lambda scorer, feature_scoring: Engine(
            state,
            scorer,
            planned.fallback,
            counting,
            feature_scoring=feature_scoring,
            registry=None if planned.topics is None else planned.topics.registry,
            degraded=freshness.degraded,
            muted=partial(_notify_of_muted, planned.settings.rule_limit, deliveries.notify),
        ),
        OpenModel.of(scoring.bundle, scoring.reasons),
    )
    engine = engines.engine(planned.scored, api, engines.model)
    if planned.warning is not None:
        _LOG.warning("%s", planned.warning)
    elif features.velocity and freshness.age > _GAP_SECONDS and not follows:
        _LOG.warning(
            "--state %s: no server recorded for %s before now, so the windows lack that time; "
            "--max-staleness SPAN scores without windows after such a gap",
            planned.outputs.directory,
            _span(freshness.age),
        )
    _warm(engine, api)
    return _Parts(engine, engines, follower, freshness, shadow)


#: Seconds without a server that are worth a warning.
_GAP_SECONDS = 3600.0


#: Examples that are scored before the first request.
_EXAMPLES = 20


def _warm(engine: Engine, api: Api) -> None:
    """Score the example of the API by the state, so that no request pays for its first use."""
    record = api.example
    for _ in range(_EXAMPLES):
        engine.peek([record])


def _span(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"


#: Counter to the outcome of its rows, in the metrics.
_OUTCOMES = {ROWS_SCORED: "scored", ROWS_DEAD: "dead", ROWS_DUPLICATE: "duplicate"}


def _count(counted: Counter[str], metrics: Metrics, name: str, rows: int) -> None:
    counted[name] += rows
    if rows and name in _OUTCOMES:
        count(metrics.outcomes, _OUTCOMES[name], rows)


def _watch(
    stack: ExitStack,
    options: ServeOptions,
    planned: ServePlan,
    metrics: Metrics,
    state: ServerState,
    *,
    shown: bool,
) -> None:
    """Judge the days and sample the figures of the live page until the stack is closed.

    Args:
      shown: whether the analysts' pages show the figures.
    """
    judged = _judged(planned, state) if options.monitor else None
    report = stack.enter_context(judging(options, judged))
    metrics.monitor = lambda: gauges_of(report())
    sampled = Sampled(
        "server",
        metrics.totals,
        report,
        options.monitor,
        planned.outputs.monitor if options.monitor or shown else None,
    )
    metrics.live = stack.enter_context(sampling(sampled))


def _judged(planned: ServePlan, state: ServerState) -> Judged:
    """Return what the monitor of a server works with."""
    first, counters = planned.scored.scoring.bundle, state.settings.drift
    return Judged(
        state.drift,
        lambda: first if counters is None else counters.bundle,
        True,
        planned.outputs.monitor,
        planned.scored.scoring.alerts_database,
        [channel.name for channel in planned.scored.channels],
    )


def _follower(
    planned: ServePlan,
    state: ServerState,
    predictions: PredictionQueue,
    freshness: Freshness,
) -> Follower:
    from beam_fraud.sources.kafka.feed import Feed

    topics, features, settings = planned.topics, planned.scored.features, planned.settings
    assert topics is not None

    def connect() -> Feed:
        # The source of the state is its requests, also where it follows a topic.
        identity = topics.identity()
        state.claim({"topics": identity.pop("source"), **identity})
        source = topics.source(
            features.schema,
            features.labels,
            planned.outputs,
            here=True,
            reordered=False,
            until_idle=None,
            lateness=settings.windows.lateness,
        )
        source = replace(source.resumed(state.positions), micro_batch=BLOCK_MESSAGES)
        return Feed(source.reading, None, source.positions)

    follower = Follower(connect, predictions.follow, freshness)
    if not planned.going_on:
        follower.connect()
    return follower


def _places(planned: ServePlan) -> Places:
    scoring = planned.scored.scoring
    sink = scoring.sink
    # Without a spill: rows wait in the state.
    writing = None if sink is None else sink.waiting(PATIENCE, None).connected
    labels = None
    if planned.topics is not None and len(planned.topics.read) > 1:
        database = None if sink is None else sink.database
        labels = database or sqlite_url(planned.outputs.directory / "outbox.db")
    context = scoring.alert_context(planned.scored.features)
    return Places(writing, scoring.outbox, labels, scoring.channels, context, planned.run_id)


def _dispatcher(planned: ServePlan) -> Dispatcher | None:
    database = planned.scored.scoring.alerts_database
    if database is None:
        return None
    outbox = Outbox(database)
    if planned.scored.scoring.outbox is not None:
        prepare_database(outbox.url)
    return Dispatcher(outbox, planned.scored.channels)


def _notify_of_muted(
    limit: float, notify: Callable[[Sequence[Notice]], None], muted: Sequence[MutedRule]
) -> None:
    notices = [notice_of(rule, limit) for rule in muted]
    for notice in notices:
        _LOG.warning("%s", notice.text)
    # In a thread: a database that is away must not delay answers.
    threading.Thread(target=notify, args=(notices,), daemon=True).start()
