"""`beam-fraud score`: score files, store flagged transactions, alert."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from beam_fraud.alerts.channels.channel import Channel
from beam_fraud.alerts.dispatch import send_pending
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.alerts.queue import queue_notices
from beam_fraud.cli.commands import batch
from beam_fraud.cli.commands.batch import BatchPlan
from beam_fraud.cli.commands.chosen_model import ChosenModel
from beam_fraud.cli.commands.places import RunPlaces, refuse_shared_places
from beam_fraud.cli.commands.rules import rule_counts, warn_of_wide_rules
from beam_fraud.cli.commands.scoring import (
    audited_rows,
    plan_scoring,
    refuse_no_outbox,
    refuse_undelivered,
    sink_of,
    undelivered_rows,
)
from beam_fraud.cli.commands.shadows import shadow_bundles, shadow_counts, with_shadows
from beam_fraud.cli.commands.times import parse_seconds
from beam_fraud.cli.options import ScoreOptions
from beam_fraud.decisions.rules.kept import keep_rules
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.monitoring import counters
from beam_fraud.monitoring.shadow import dropped_in
from beam_fraud.monitoring.waiting import safe_meanwhile
from beam_fraud.pipeline.batch import Inputs, Scoring, build_score
from beam_fraud.schema.stages import SHADOWED
from beam_fraud.sinks.base import FlaggedSink
from beam_fraud.sinks.iceberg.run import IcebergRun
from beam_fraud.sinks.url import parse_archive
from beam_fraud.sources.kafka.registry import RegistrySettings
from beam_fraud.storage.batch_outputs import (
    DEAD_LETTERS,
    SCORES,
    SHADOW,
    RunOutputs,
    batch_outputs,
)
from beam_fraud.storage.database.retry import persistently
from beam_fraud.storage.urls import Place
from beam_fraud.transforms.shadow import notice_of

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Plan:
    """The checked plan."""

    #: Plan of the pipeline.
    batch: BatchPlan
    inputs: Inputs
    scoring: Scoring
    channels: tuple[Channel, ...]
    #: Seconds of retries for a failing channel.
    alert_patience: float
    #: The table of all scores, or None.
    archive: IcebergRun | None

    @property
    def outputs(self) -> RunOutputs:
        return self.inputs.outputs

    @property
    def sink(self) -> FlaggedSink | None:
        return self.scoring.sink


def run(options: ScoreOptions) -> dict[str, object]:
    """Score files; nothing is published unless all of it succeeds.

    Returns:
      The summary, as in `summary.json`.

    Raises:
      UsageError: an option is invalid.
      FraudError: a file, the bundle, a sink or a channel cannot be used; or alerts could not be
        sent, after everything else was done.
    """
    return score_files(options, sink_of(options))


def score_files(
    options: ScoreOptions, sink: FlaggedSink | None, registry: RegistrySettings | None = None
) -> dict[str, object]:
    """Score files into a parsed sink; otherwise as `run`.

    Args:
      options: options of the call.
      sink: the sink of `--sink`.
      registry: schema registry of framed records.

    Raises:
      UsageError, FraudError: as `run`.
    """
    started = time.monotonic()
    plan = _plan(options, sink)
    plan = replace(plan, inputs=replace(plan.inputs, registry=registry))
    if options.dry_run:
        return _dry_run(plan)
    plan.outputs.begin(attended=plan.batch.template is None)
    build = partial(build_score, scoring=plan.scoring)
    if plan.batch.template is not None:
        return batch.leave_template(plan.batch, plan.inputs, build)
    try:
        if plan.sink is not None:
            plan.sink.begin(plan.outputs.run_id)
        if plan.archive is not None:
            plan.archive.begin(plan.outputs.run_id)
        if plan.scoring.outbox is not None:
            plan.scoring.outbox.begin()
        with safe_meanwhile(lambda: f"{plan.outputs.directory} stays as it was until the end"):
            counted = batch.run(plan.batch, plan.inputs, build, "scoring")
        batch.check_rows(counted, plan.inputs)
        warn_of_wide_rules(plan.scoring.rules, counted)
        plan.outputs.publish()
        keep_rules(plan.outputs.directory, plan.scoring.rules)
        if plan.sink is not None:
            plan.sink.commit(plan.outputs.run_id)
        if plan.archive is not None:
            scores = Place.parse_all(plan.outputs.parts(SCORES))
            plan.archive.replace(plan.outputs.run_id, scores)
    except BaseException as error:
        plan.outputs.abandon()
        if plan.sink is not None:
            plan.sink.discard(plan.outputs.run_id)
        if plan.archive is not None:
            plan.archive.discard(plan.outputs.run_id)
        known = None if plan.sink is None else plan.sink.failure_in(error)
        if known is not None:
            raise known from None
        raise
    windows = batch.windows_summary(plan.inputs, counted)
    summary = _summary(plan, counted, {}, time.monotonic() - started) | windows
    alone = plan.outputs.write_summary(summary)
    if plan.channels:
        try:
            _note_dropped(plan, counted)
            alerts = _send(plan)
        except FraudError:
            # The database is still down: report the spilled rows instead.
            refuse_undelivered(plan.sink, counted, plan.outputs.directory)
            raise
        summary = _summary(plan, counted, alerts, time.monotonic() - started) | windows
        alone = plan.outputs.write_summary(summary)
        if not counted.get(counters.ROWS_UNDELIVERED):
            _refuse_unsent(plan, alerts["failed"])
    refuse_undelivered(plan.sink, counted, plan.outputs.directory)
    if not alone:
        batch.refuse_replaced(plan.outputs)
    return summary


def render(result: dict[str, object]) -> str:
    """Return the summary for a terminal."""
    from beam_fraud.cli.terminal.summary import summary

    return summary(result)


def _plan(options: ScoreOptions, sink: FlaggedSink | None) -> _Plan:
    model = ChosenModel.of(options)
    places = RunPlaces.of(
        files=options.files,
        history=options.history,
        model=model.place,
        model_option=model.option,
        lists=options.lists,
        out=options.out,
    )
    places = replace(places, shadows=shadow_bundles(options, model))
    outputs = batch_outputs(places.out)
    refuse_no_outbox(sink, options.alerts, outputs)
    sink = None if sink is None else sink.for_run(outputs.directory)
    archive = _archive(options, outputs, sink)
    given = {"--sink": sink, "--archive": archive, "--alert": options.alerts}
    attended = [option for option, value in given.items() if value]
    how = batch.plan(options, places, sink, attended)
    here = how.target.runner.local
    planned = plan_scoring(
        options,
        model,
        sink,
        outputs,
        how.submission.options,
        sys.stderr,
        here=here,
        streaming=False,
    )
    planned = with_shadows(planned, options, model, here=here, streaming=False)
    scoring, channels = planned.scoring, planned.channels
    outputs = replace(
        outputs, branches={**outputs.branches, SCORES: scoring.archived(planned.features)}
    )
    if scoring.challengers:
        outputs = replace(outputs, branches={**outputs.branches, SHADOW: SHADOWED})
    inputs = batch.find(how, planned.features, outputs)
    read = (*inputs.files, *inputs.history)
    refuse_shared_places(outputs, scoring.sink, channels, read, scoring.bundle.place)
    outputs.check()
    planned.check()
    if archive is not None:
        archive.check()
    batch.warn_of_windows(inputs)
    _warn_of_ids(sink, options.alerts, inputs)
    patience = parse_seconds("--alert-patience", options.alert_patience)
    return _Plan(how, inputs, scoring, channels, patience, archive)


def _archive(
    options: ScoreOptions, outputs: RunOutputs, sink: FlaggedSink | None
) -> IcebergRun | None:
    if options.archive is None:
        return None
    archive = parse_archive(options.archive).for_run(outputs.directory)
    if sink is not None and archive.table.is_at(sink.describe()):
        raise UsageError(
            f"--archive {archive.describe()}: --sink writes to that table; give another one",
            Code.PLACE_SHARED,
        )
    return archive


def _warn_of_ids(sink: FlaggedSink | None, alerts: Sequence[str], inputs: Inputs) -> None:
    keyed = sink is not None and sink.archive is None
    if (keyed or alerts) and inputs.features.schema.role("transaction_id") is None:
        _LOG.warning(
            "schema %s has no transaction_id: rows are identified as <file>:<row>, so rows of "
            "another file with the same name count as repeats; give each file its own name",
            inputs.features.schema.name,
        )


def _send(plan: _Plan) -> dict[str, int]:
    """Send the alerts after the run's success."""
    database = plan.scoring.alerts_database
    assert database is not None
    report = send_pending(Outbox(database), plan.channels, plan.alert_patience)
    return {
        "sent": report.sent,
        "already_sent": report.already_sent,
        "failed": report.failed,
        "snoozed": report.snoozed,
        "digested": report.digested,
    }


def _note_dropped(plan: _Plan, counted: dict[str, int]) -> None:
    """Queue a notice of each challenger that was dropped."""
    database, channels = plan.scoring.alerts_database, plan.scoring.channels
    ended = dropped_in(counted, [one.key for one in plan.scoring.challengers])
    notices = [notice_of(key, one.reason, plan.outputs.run_id) for key, one in ended.items()]
    if notices and database is not None:
        persistently(database, lambda c: queue_notices(c, channels, notices))


def _refuse_unsent(plan: _Plan, failed: int) -> None:
    if failed:
        raise FraudError(
            f"{failed:,} alerts were not sent and wait in the outbox; all other results are in "
            f"{plan.outputs.directory}: repeat the call to send them",
            Code.ALERTS_UNSENT,
        )


def _summary(
    plan: _Plan, counted: dict[str, int], alerts: dict[str, int], seconds: float
) -> dict[str, object]:
    rows_in = counted.get(counters.ROWS_IN, 0)
    outputs: dict[str, object] = {
        "scores": plan.outputs.place(SCORES),
        "dead_letters": plan.outputs.place(DEAD_LETTERS),
    }
    if plan.scoring.challengers:
        outputs["shadow"] = plan.outputs.place(SHADOW)
    if plan.sink is not None:
        outputs["sink"] = plan.sink.describe()
    if plan.archive is not None:
        outputs["archive"] = plan.archive.describe()
    if plan.channels:
        outputs["alerts"] = [channel.describe() for channel in plan.channels]
    if plan.scoring.outbox is not None:
        outputs["outbox"] = plan.scoring.outbox.describe()
    return {
        "rows_in": rows_in,
        "rows_scored": counted.get(counters.ROWS_SCORED, 0),
        "rows_flagged": counted.get(counters.ROWS_FLAGGED, 0),
        **audited_rows(plan.scoring.audit, counted),
        **undelivered_rows(plan.sink, counted),
        **batch.row_counts(counted),
        **rule_counts(plan.scoring.rules, counted),
        **shadow_counts(plan.scoring.challengers, counted, {}),
        "alerts": alerts,
        "seconds": round(seconds, 3),
        "rows_per_second": round(rows_in / seconds),
        "model_id": plan.scoring.bundle.model_id,
        "run_id": plan.outputs.run_id,
        "outputs": outputs,
    }


def _dry_run(plan: _Plan) -> dict[str, object]:
    return {
        **batch.dry_run(plan.inputs),
        "model_id": plan.scoring.bundle.model_id,
        "sink": plan.sink.describe() if plan.sink else None,
        "archive": plan.archive.describe() if plan.archive else None,
        "alerts": [channel.describe() for channel in plan.channels],
        "rules": [] if plan.scoring.rules is None else list(plan.scoring.rules.names),
        "shadows": [one.key for one in plan.scoring.challengers],
    }
