"""Plan scoring for `score` and `stream`: bundle, rules, sink and channels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from apache_beam.options.pipeline_options import PipelineOptions

from beam_fraud.alerts.channels.channel import Channel
from beam_fraud.alerts.channels.url import parse_channels
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.cli.commands.chosen_model import ChosenModel
from beam_fraud.cli.commands.places import AlertOutputs, Outputs
from beam_fraud.cli.commands.times import parse_seconds
from beam_fraud.cli.options import ScoringOptions
from beam_fraud.cli.options.decisions import AuditLaneOptions, LinkOptions, SinkOptions
from beam_fraud.decisions.audit_lane import AuditLane
from beam_fraud.decisions.linked_values import LinkedColumns, reading
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.bundle import check_packages
from beam_fraud.monitoring.counters import ROWS_AUDITED, ROWS_UNDELIVERED
from beam_fraud.pipeline.batch import Scoring
from beam_fraud.schema.toml import load_schema
from beam_fraud.sinks.base import FlaggedSink
from beam_fraud.sinks.url import parse_sink
from beam_fraud.storage.batch_outputs import UNDELIVERED
from beam_fraud.storage.database.connection import sqlite_url
from beam_fraud.wording import own_call


def audited_rows(audit: AuditLane | None, counted: dict[str, int]) -> dict[str, object]:
    """Return the count of audited rows for a summary; empty without an audit."""
    return {} if audit is None else {ROWS_AUDITED: counted.get(ROWS_AUDITED, 0)}


def audit_of(options: AuditLaneOptions, sink: FlaggedSink | None) -> AuditLane | None:
    """Return the lane of `--audit-share`.

    Raises:
      UsageError: it is no share, or the sink is no database.
    """
    if options.audit_share is None:
        return None
    audit = AuditLane.parse(options.audit_share)
    if sink is None or sink.database is None:
        raise UsageError(
            "--audit-share: audited rows wait for people in a database; give --sink "
            "sqlite:///FILE or --sink postgresql://USER@HOST/DATABASE",
            Code.SINK_UNSUITED,
        )
    return audit


def linked_of(
    options: LinkOptions, sink: FlaggedSink | None, audit: AuditLane | None
) -> LinkedColumns | None:
    """Return the columns of `--link`; None without any.

    Raises:
      UsageError: the sink is no database.
    """
    if not options.links:
        return None
    if sink is None or sink.database is None:
        raise UsageError(
            "--link: the values that link cases are in the database of the review; give --sink "
            "sqlite:///FILE or --sink postgresql://USER@HOST/DATABASE",
            Code.SINK_UNSUITED,
        )
    return LinkedColumns(tuple(dict.fromkeys(options.links)), audit)


def undelivered_rows(sink: FlaggedSink | None, counted: dict[str, int]) -> dict[str, object]:
    """Return the count of spilled rows for a summary; empty without a database."""
    if sink is None or sink.database is None:
        return {}
    return {ROWS_UNDELIVERED: counted.get(ROWS_UNDELIVERED, 0)}


def refuse_undelivered(sink: FlaggedSink | None, counted: dict[str, int], out: Path | str) -> None:
    """Fail at the end if rows were spilled, and name the fix.

    Raises:
      FraudError: some were spilled.
    """
    rows = counted.get(ROWS_UNDELIVERED, 0)
    if rows and sink is not None:
        raise FraudError(
            f"{rows:,} flagged rows and their alerts are not in {sink.describe()} and wait in "
            f"{out}/{UNDELIVERED}; all other results are in {out}: when the database is back, "
            f"`{own_call()} dead-letters replay {out} --sink URL` writes them",
            Code.ROWS_UNDELIVERED,
        )


_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoringPlan:
    """The plan of scoring."""

    #: Scoring of the graph.
    scoring: Scoring
    #: The features to compute, and the schema.
    features: FeatureSet
    #: Alert channels.
    channels: tuple[Channel, ...]
    #: Beam's options.
    beam_options: PipelineOptions

    def check(self, *, going_on: bool = False) -> None:
        """Check that all outputs are writable, changing nothing.

        Args:
          going_on: whether a stream resumes: then a service that is down is no error of the call,
            and the stream waits for it.

        Raises:
          UsageError: Beam's options lack what the sink needs.
          FraudError: an output cannot be used.
        """
        sink, outbox = self.scoring.sink, self.scoring.outbox
        if sink is not None:
            sink.check(going_on=going_on)
        if outbox is not None:
            outbox.check()
        for channel in self.channels:
            try:
                channel.check()
            except FraudError as error:
                if not going_on:
                    raise
                _LOG.warning("alerts wait in the outbox; retrying: %s", error)
        if sink is not None:
            sink.check_options(self.beam_options)


def sink_of(options: SinkOptions) -> FlaggedSink | None:
    """Return the sink of `--sink`; call it once per command.

    Raises:
      UsageError: it is no valid sink.
    """
    return None if options.sink is None else parse_sink(options.sink)


def refuse_no_outbox(
    sink: FlaggedSink | None, alerts: Sequence[str], outputs: AlertOutputs
) -> None:
    """Check that alerts have an outbox.

    Args:
      sink: the sink of `--sink`.
      alerts: values of `--alert`.
      outputs: outputs under `--out`.

    Raises:
      UsageError: they have none.
    """
    if alerts and outputs.outbox is None and (sink is None or sink.database is None):
        raise UsageError(
            f"--alert: alerts wait in a database, and --out {outputs.shown} can hold none; give "
            "--sink postgresql://USER@HOST/DATABASE",
            Code.SINK_UNSUITED,
        )


def plan_scoring(
    options: ScoringOptions,
    model: ChosenModel,
    sink: FlaggedSink | None,
    outputs: Outputs,
    beam_options: PipelineOptions,
    console: TextIO,
    *,
    here: bool,
    streaming: bool,
) -> ScoringPlan:
    """Find the bundle and the outputs, which `ScoringPlan.check` checks later.

    Args:
      options: options of the call.
      model: the model of the call.
      sink: the sink of `--sink`.
      outputs: outputs under `--out`.
      beam_options: Beam's options.
      console: stream of `--alert console:`.
      here: whether Beam's local runner runs the graph.
      streaming: whether the graph is a stream's.

    Raises:
      UsageError: an option is invalid.
      FraudError: the bundle, or a file of an option, cannot be used.
    """
    audit = audit_of(options, sink)
    linked = linked_of(options, sink, audit)
    bundle = model.open()
    if here:
        # On a remote runner, the workers need it, not this machine.
        check_packages(bundle)
    schema = bundle.schema if options.schema is None else load_schema(options.schema)
    rules = model.rules(options, bundle, schema)
    schema = schema if linked is None else reading(schema, linked.columns)
    features = bundle.features_in(schema, () if rules is None else rules.columns)
    if sink is not None:
        sink = sink.streaming(here=here) if streaming else sink
        # On a remote runner, rows on a worker's disk would be lost: there the runner retries.
        directory = outputs.directory
        spill = directory / UNDELIVERED if here and isinstance(directory, Path) else None
        sink = sink.waiting(parse_seconds("--sink-patience", options.sink_patience), spill)
    channels = parse_channels(options.alerts, console, pseudonymise=options.pseudonymise)
    outbox = None
    if channels and (sink is None or sink.database is None):
        assert outputs.outbox is not None, "such a call is refused before"
        outbox = Outbox(sqlite_url(outputs.outbox))
    names = tuple(channel.name for channel in channels)
    scoring = Scoring(
        bundle, sink, names, outbox, rules, options.reasons, options.keep_features, audit, linked
    )
    return ScoringPlan(scoring, features, channels, beam_options)
