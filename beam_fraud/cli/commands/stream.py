"""`beam-fraud stream`: score a topic or a directory while the command runs."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TextIO, cast

import msgspec
from apache_beam.runners.runner import PipelineResult

from beam_fraud import __version__
from beam_fraud.alerts.dispatch import Dispatcher
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.cli.commands.batch import counted_share, first_of_file, row_counts
from beam_fraud.cli.commands.live_figures import Sampled, sampling, totals_of
from beam_fraud.cli.commands.live_monitor import Judged, gauges_of, judging, no_report
from beam_fraud.cli.commands.rules import rule_counts
from beam_fraud.cli.commands.scoring import audited_rows, refuse_undelivered, undelivered_rows
from beam_fraud.cli.commands.shadows import shadow_counts
from beam_fraud.cli.commands.stream_plan import StreamPlan, plan
from beam_fraud.cli.options import StreamOptions
from beam_fraud.cli.terminal.interruption import drained_by_signals
from beam_fraud.cli.terminal.progress import AboveLine
from beam_fraud.cli.terminal.stream_status import live_line
from beam_fraud.decisions.rules.kept import keep_rules
from beam_fraud.decisions.rules.rule import RuleSet
from beam_fraud.errors import Code, FraudError
from beam_fraud.features.hashing import IdHash
from beam_fraud.models.bundle import Bundle
from beam_fraud.monitoring import counters
from beam_fraud.monitoring.live_figures import Totals
from beam_fraud.monitoring.otlp import OtlpTarget, exporting
from beam_fraud.monitoring.prometheus import StreamMetrics, serve_metrics
from beam_fraud.monitoring.recorder import new_board, read_board
from beam_fraud.monitoring.snapshot import Snapshot, no_alerts
from beam_fraud.monitoring.waiting import safe_meanwhile
from beam_fraud.pipeline.stream import archives, build_stream
from beam_fraud.runners import launch
from beam_fraud.runners.dataflow.job import DataflowDraining
from beam_fraud.runners.flink.job import FlinkJob
from beam_fraud.runners.launch import Draining
from beam_fraud.state.drift import DRIFT, DRIFT_LETTERS
from beam_fraud.state.identity import IN_FORCE, checkpoint_hash, remember, taken_up, warn_of_no_key
from beam_fraud.storage.atomic import make_directory
from beam_fraud.storage.batch_outputs import DEAD_LETTERS, MONITOR, SCORES, SHADOW
from beam_fraud.storage.checkpoint import LocalCheckpoint
from beam_fraud.storage.database.connection import prepare_database
from beam_fraud.storage.stream_outputs import StreamOutputs, claim_archives
from beam_fraud.transforms.counters import read_counters

_LOG = logging.getLogger(__name__)
#: Time limit in seconds of a runner's end of a drained stream.
_PATIENCE = 10.0


def run(options: StreamOptions) -> dict[str, object]:
    """Score rows until a signal, or for `until_idle` idle seconds.

    Returns:
      The summary of this run, as in `summary.json`.

    Raises:
      UsageError: an option is invalid.
      FraudError: the broker, the bundle, a sink or a channel cannot be used; or alerts are still
        pending at the end.
    """
    started = time.monotonic()
    planned = plan(options, console=cast(TextIO, AboveLine()))
    target = OtlpTarget.of(options.otlp)
    outputs = planned.stream.outputs
    with ExitStack() as stack:
        outputs.begin()
        stack.callback(outputs.release)
        keep_rules(outputs.url or outputs.directory, planned.scoring.rules)
        read = stack.enter_context(new_board(outputs.live))
        claimed = _claimed(planned, stack)
        _prepare_places(planned, stack)
        dispatcher = _dispatcher(planned)
        if dispatcher is not None:
            stack.enter_context(dispatcher.running())
        alerts = no_alerts if planned.database is None else Outbox(planned.database).counts
        build = {"version": __version__, "model_id": planned.scoring.bundle.model_id}
        report = no_report
        # The last metrics are sent after the last days are judged.
        families = StreamMetrics(read, build, alerts, lambda: gauges_of(report())).collect
        stack.enter_context(exporting(target, "stream", families))
        judged = _judged(planned)
        report = stack.enter_context(judging(options, judged))
        if judged is not None:
            model_id = planned.scoring.bundle.model_id
            totals = partial(_totals, read, model_id)
            shown = None if outputs.url else outputs.monitor
            sampled = Sampled("stream", totals, report, True, shown)
            stack.enter_context(sampling(sampled))
        if options.metrics_port is not None:
            page = stack.enter_context(
                serve_metrics(
                    options.metrics_port, read, build, alerts, lambda: gauges_of(report())
                )
            )
            _LOG.info("metrics at %s", page)
        jobs = list[PipelineResult]()
        stack.enter_context(live_line(read, alerts, lambda: _phase(jobs)))
        stack.enter_context(safe_meanwhile(lambda: _safe(planned)))
        draining = _draining(planned, lambda: read().done)
        stack.enter_context(drained_by_signals(draining.ask))
        rules = stack.enter_context(_rules_in_force(planned))
        if planned.warning is not None:
            _LOG.warning("%s", planned.warning)
        _LOG.info("reading %s into %s", planned.what, outputs.shown)
        if options.monitor and not planned.stream.here:
            _LOG.info("%s", _of_counts(outputs, judging=judged is not None))
        counted = _run(claimed, draining.wait, jobs)
        if planned.submission.template_location is not None:
            return _template(planned)
        if planned.scoring.sink is not None and planned.scoring.sink.archive is None:
            planned.scoring.sink.commit(planned.stream.run_id)
    last = read_board(outputs.live)
    # Flink reports nothing of a cancelled job; workers on this machine have reported it themselves.
    rows = dict(counted or last.counters)
    sent = {} if dispatcher is None else _alerts(dispatcher)
    summary = _summary(planned, rows, sent, last, time.monotonic() - started, rules())
    outputs.write_summary(summary)
    refuse_undelivered(planned.scoring.sink, rows, outputs.shown)
    _judge_dead_letters(options, outputs, rows)
    if sent.get("waiting"):
        raise FraudError(
            f"{sent['waiting']:,} alerts were not sent and wait in the outbox; all other results "
            f"are in {outputs.shown}: repeat the call to send them",
            Code.ALERTS_UNSENT,
        )
    return summary


def render(result: dict[str, object]) -> str:
    """Return the summary for a terminal."""
    from beam_fraud.cli.terminal.summary import summary

    return summary(result)


def _judge_dead_letters(
    options: StreamOptions, outputs: StreamOutputs, counted: dict[str, int]
) -> None:
    """Warn of many dead letters at the end of a stream; more than `--max-dead` is a failure.

    It does not end a running stream: otherwise a few invalid messages could stop it.
    """
    share = counted_share(counted)
    refusal = None if options.max_dead is None else share.refusal(options.max_dead)
    if refusal is None and not share.remarkable:
        return
    share = replace(share, first=_newest_dead_letter(outputs))
    if refusal is not None:
        refusal = share.refusal(options.max_dead)
        raise FraudError(f"{refusal}; what was scored is in {outputs.shown}", Code.ROWS_INVALID)
    _LOG.warning("%s", share.refusal(None) or share.warning())


def _newest_dead_letter(outputs: StreamOutputs) -> tuple[str, int, str] | None:
    archive = outputs.archive(DEAD_LETTERS)
    parts = archive.glob("part-*.parquet") if isinstance(archive, Path) else ()
    newest = max(parts, key=lambda part: part.stat().st_mtime_ns, default=None)
    return None if newest is None else first_of_file(str(newest))


def _claimed(planned: StreamPlan, stack: ExitStack) -> StreamPlan:
    """Claim the state and the outputs of the stream, and go on from there."""
    outputs = planned.stream.outputs
    if planned.stream.here:
        planned = _resumed(planned, stack)
    elif planned.submission.continues:
        planned = _hashed(planned, taken_up(outputs, planned.about))
    else:
        _claim_archives(planned, None)
    if not planned.stream.here:
        # Even if restored: an earlier version may have recorded less.
        restored = planned.submission.continues
        remember(outputs, planned.about, planned.stream.hashing, restored=restored)
    warn_of_no_key(planned.stream.hashing, outputs.shown)
    return planned


def _run(
    planned: StreamPlan, wait: Callable[[PipelineResult], None], jobs: list[PipelineResult]
) -> Mapping[str, int]:
    """Run a pipeline until it ends; return its counters."""

    def waited(job: PipelineResult) -> None:
        jobs.append(job)
        wait(job)

    result = launch.run(
        planned.submission,
        lambda root: build_stream(root, planned.stream, planned.scoring),
        waited,
    )
    if planned.submission.template_location is not None:
        return {}
    counted = read_counters(result)
    if planned.stream.here:
        # Beam only logs errors after the last bundle.
        LocalCheckpoint.at(planned.stream.outputs.checkpoint).refuse_failed()
        _finish_archives(planned)
    return counted


def _draining(planned: StreamPlan, progress: Callable[[], object]) -> Draining | DataflowDraining:
    if planned.runner.dataflow:
        return DataflowDraining()
    keep = _keep if planned.stream.checkpoints else None
    return Draining(planned.stream.outputs.stop, progress, _PATIENCE, keep)


def _keep(result: PipelineResult) -> None:
    """Take a Flink savepoint of a stream with checkpoints, if `--flink_master` names Flink."""
    if isinstance(result, FlinkJob):
        result.keep()


def _phase(jobs: list[PipelineResult]) -> str:
    """Return Flink's phase before the stream reads, if `--flink_master` names Flink."""
    return next((job.phase for job in jobs if isinstance(job, FlinkJob)), "")


def _template(planned: StreamPlan) -> dict[str, object]:
    """Return the result for a template."""
    outputs = planned.stream.outputs
    return {
        "template": planned.submission.template_location,
        "run_id": planned.stream.run_id,
        "outputs": {name: str(outputs.archive(name)) for name in (SCORES, DEAD_LETTERS)},
    }


def _resumed(planned: StreamPlan, stack: ExitStack) -> StreamPlan:
    """Restore the local state and the archive of a dead run."""
    checkpoint = LocalCheckpoint.at(planned.stream.outputs.checkpoint)
    stack.callback(checkpoint.close)
    planned = _hashed(planned, checkpoint_hash(checkpoint))
    going_on = checkpoint.claim(planned.about)
    decides = planned.scoring.decider(planned.stream.features).pair
    checkpoint.note(IN_FORCE, msgspec.json.encode(decides).decode())
    _claim_archives(planned, checkpoint)
    _finish_archives(planned)
    source = planned.stream.source.resumed(checkpoint.positions())
    if going_on:
        _LOG.info("resuming where the last run stopped")
    return replace(planned, stream=replace(planned.stream, source=source))


def _hashed(planned: StreamPlan, hashing: IdHash) -> StreamPlan:
    return replace(planned, stream=replace(planned.stream, hashing=hashing))


def _safe(planned: StreamPlan) -> str:
    """Return the note of a wait: nothing is lost."""
    if not planned.stream.here:
        return "nothing is lost: the runner tries again from its last checkpoint"
    rows = LocalCheckpoint.at(planned.stream.outputs.checkpoint).rows
    return f"{rows:,} rows of this run are stored, the stream goes on from there"


def _claim_archives(planned: StreamPlan, checkpoint: LocalCheckpoint | None) -> None:
    """Claim the archives before they restore, which removes parts unknown to their state."""
    outputs, sink = planned.stream.outputs, planned.scoring.sink
    archives = [outputs.archive(name) for name in (SCORES, DEAD_LETTERS, SHADOW)]
    directories = [archive for archive in archives if isinstance(archive, Path)]
    if sink is not None and sink.archive is not None:
        directories.append(sink.archive)
    claim_archives(directories, outputs.directory, checkpoint)


def _finish_archives(planned: StreamPlan) -> None:
    """Publish rows of unfinished Parquet files."""
    checkpoint = LocalCheckpoint.at(planned.stream.outputs.checkpoint)
    for step, make in archives(planned.stream, planned.scoring).items():
        for number in checkpoint.shards(step):
            shard = make(number)
            shard.restore(checkpoint.deltas(step, number))
            effects = shard.finish()
            deltas = [(delta.data, delta.newest) for delta in effects.deltas]
            checkpoint.keep(step, number, deltas, replaces=effects.replaces)
    checkpoint.commit({})


def _prepare_places(planned: StreamPlan, stack: ExitStack) -> None:
    """Create the outputs; record the end of the run in a database."""
    sink, run_id = planned.scoring.sink, planned.stream.run_id
    if sink is not None and sink.archive is not None:
        make_directory(sink.archive)
    elif sink is not None:
        sink.begin(run_id)
        if planned.submission.template_location is None:
            # It does nothing after a commit.
            stack.callback(sink.discard, run_id)
    # The sink has prepared its own database.
    prepared = {None, None if sink is None else sink.database}
    for database in {planned.database, planned.stream.labels_database} - prepared:
        prepare_database(str(database))


def _dispatcher(planned: StreamPlan) -> Dispatcher | None:
    if planned.database is None:
        return None
    return Dispatcher(Outbox(planned.database), planned.channels)


def _alerts(dispatcher: Dispatcher) -> dict[str, int]:
    return {
        "sent": dispatcher.sent,
        "waiting": sum(dispatcher.waiting().values()),
        "snoozed": sum(dispatcher.snoozed().values()),
    }


def _summary(
    planned: StreamPlan,
    counted: dict[str, int],
    alerts: dict[str, int],
    last: Snapshot,
    seconds: float,
    rules: RuleSet | None,
) -> dict[str, object]:
    outputs = planned.stream.outputs
    places: dict[str, object] = {
        "scores": str(outputs.archive(SCORES)),
        "dead_letters": str(outputs.archive(DEAD_LETTERS)),
    }
    if planned.scoring.challengers:
        places["shadow"] = str(outputs.archive(SHADOW))
    if planned.scoring.monitored is not None:
        places["monitor"] = str(outputs.archive(MONITOR))
    if planned.scoring.sink is not None:
        places["sink"] = planned.scoring.sink.describe()
    if planned.channels:
        places["alerts"] = [channel.describe() for channel in planned.channels]
    if planned.scoring.outbox is not None:
        places["outbox"] = planned.scoring.outbox.describe()
    rows_in = counted.get(counters.ROWS_IN, 0)
    return {
        "rows_in": rows_in,
        "rows_scored": counted.get(counters.ROWS_SCORED, 0),
        "rows_flagged": counted.get(counters.ROWS_FLAGGED, 0),
        **audited_rows(planned.scoring.audit, counted),
        **undelivered_rows(planned.scoring.sink, counted),
        **row_counts(counted),
        "rows_ahead": counted.get(counters.ROWS_AHEAD, 0),
        "labels_in": counted.get(counters.LABELS_IN, 0),
        "labels_dead": counted.get(counters.LABELS_DEAD, 0),
        **_rules(rules, counted),
        **_refused(planned, counted),
        **shadow_counts(planned.scoring.challengers, counted, last.dropped),
        "alerts": alerts,
        "latency_seconds": {
            name: _finite(last.latency.quantile(q)) for name, q in (("p50", 0.5), ("p99", 0.99))
        },
        "seconds": round(seconds, 3),
        # From the first row to the last score: before and after, the stream is idle.
        "rows_per_second": round(rows_in / last.seconds) if last.seconds else 0,
        "model_id": last.model_id or planned.scoring.bundle.model_id,
        "run_id": planned.stream.run_id,
        "outputs": places,
    }


def _judged(planned: StreamPlan) -> Judged | None:
    """Return what the monitor of a stream works with; None without `--monitor`, or at a template.

    Here the counts are in the state; elsewhere the workers write them to files.
    """
    stream, template = planned.stream, planned.submission.template_location
    if planned.scoring.monitored is None or template is not None:
        return None
    in_force = stream.deciders(planned.scoring).in_force()

    def stored() -> list[bytes]:
        checkpoint = LocalCheckpoint.at(stream.outputs.checkpoint)
        return [
            one
            for step in (DRIFT, DRIFT_LETTERS)
            for shard in range(stream.shards)
            for one in checkpoint.stored(step, shard)
        ]

    def written() -> list[bytes]:
        # Imported here: SciPy's statistics are for those who monitor.
        from beam_fraud.operations.drift.live import read_pieces

        return read_pieces(stream.outputs.archive(MONITOR)) or []

    def bundle() -> Bundle:
        # Elsewhere no step of this process takes up a new champion.
        opened = in_force.current if stream.here else in_force.renew()
        return opened.decider.bundle

    return Judged(
        stored if stream.here else written,
        bundle,
        stream.here,
        stream.outputs.monitor if stream.here else None,
        planned.database,
        [channel.name for channel in planned.channels],
    )


def _of_counts(outputs: StreamOutputs, *, judging: bool) -> str:
    """Return where workers write the counts of `--monitor`, and who judges them."""
    counts = outputs.archive(MONITOR)
    judge = f"beam-fraud monitor {counts} --model BUNDLE --alert URL"
    if not judging:
        return f"counts of --monitor come to {counts}: judge them each day by {judge}"
    return (
        f"counts of --monitor come to {counts}, and this command judges the days that end while it "
        f"runs; without it: {judge}"
    )


def _totals(read: Callable[[], Snapshot], model_id: str) -> Totals:
    return totals_of(read(), model_id)


@contextmanager
def _rules_in_force(planned: StreamPlan) -> Iterator[Callable[[], RuleSet | None]]:
    """Follow the registry and the rules in this process, if its workers are here.

    Yields:
      A function that returns the rules in force; elsewhere, those of the start.
    """
    if not planned.stream.here:
        yield lambda: planned.scoring.rules
        return
    # The steps of the graph share it.
    in_force = planned.stream.deciders(planned.scoring).in_force()
    try:
        yield lambda: in_force.current.decider.rules
    finally:
        in_force.close()


def _refused(planned: StreamPlan, counted: dict[str, int]) -> dict[str, object]:
    name = counters.PROMOTIONS_REFUSED
    return {} if planned.stream.following is None else {name: counted.get(name, 0)}


def _rules(rules: RuleSet | None, counted: dict[str, int]) -> dict[str, object]:
    counts = rule_counts(rules, counted)
    return {**counts, "rules_muted": counted.get(counters.RULES_MUTED, 0)} if counts else {}


def _finite(seconds: float | None) -> float | None:
    """Return a finite number for JSON; None for infinity."""
    return None if seconds is None or math.isinf(seconds) else round(seconds, 4)
