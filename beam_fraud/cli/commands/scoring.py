"""What `score` and `stream` share: by what is scored and decided, and who is told."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from apache_beam.options.pipeline_options import PipelineOptions

from beam_fraud.alerts.channels.channel import Channel
from beam_fraud.alerts.channels.url import parse_channel
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.alerts.pseudonym import Pseudonyms
from beam_fraud.cli.commands.places import Outputs
from beam_fraud.cli.commands.rules import given_rules
from beam_fraud.cli.commands.times import given_seconds
from beam_fraud.cli.options import ScoringOptions
from beam_fraud.cli.options.groups import SinkOptions
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.bundle import check_packages, open_bundle
from beam_fraud.pipeline.batch import Scoring
from beam_fraud.schema.toml import load_schema
from beam_fraud.sinks.base import FlaggedSink
from beam_fraud.sinks.url import parse_sink
from beam_fraud.storage.batch_outputs import UNDELIVERED
from beam_fraud.storage.database.connection import sqlite_url
from beam_fraud.transforms.counters import ROWS_UNDELIVERED
from beam_fraud.wording import own_call


def undelivered_rows(sink: FlaggedSink | None, counted: dict[str, int]) -> dict[str, object]:
    """Return what a summary says of them: nothing without a database."""
    if sink is None or sink.database is None:
        return {}
    return {ROWS_UNDELIVERED: counted.get(ROWS_UNDELIVERED, 0)}


def refuse_undelivered(sink: FlaggedSink | None, counted: dict[str, int], out: Path | str) -> None:
    """Say in the end that rows wait, and how they come into the database.

    Raises:
      FraudError: some do.
    """
    rows = counted.get(ROWS_UNDELIVERED, 0)
    if rows and sink is not None:
        raise FraudError(
            f"{rows:,} flagged rows and their alerts are not in {sink.describe()} and wait in "
            f"{out}/{UNDELIVERED}; all else is in {out}: when it is back, "
            f"`{own_call()} dead-letters replay {out} --sink URL` writes them",
            Code.ROWS_UNDELIVERED,
        )


_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoringPlan:
    """What was made of them."""

    #: What the graph needs to know.
    scoring: Scoring
    #: What is computed of transactions, and their schema.
    features: FeatureSet
    #: Whom alerts go to.
    channels: tuple[Channel, ...]
    #: How Beam runs.
    beam_options: PipelineOptions

    def check(self, *, going_on: bool = False) -> None:
        """See that all places can be written to, changing nothing.

        Args:
          going_on: whether this has run before, so that a place that is down now is no mistake in
            the call: a database is waited for, and alerts wait for their channels.

        Raises:
          UsageError: Beam's options lack what the sink needs.
          FraudError: a place cannot be used.
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
                _LOG.warning("alerts wait in the outbox and are tried again: %s", error)
        if sink is not None:
            sink.check_options(self.beam_options)


def sink_of(options: SinkOptions) -> FlaggedSink | None:
    """Return what `--sink` names; a command asks once.

    Raises:
      UsageError: it names no sink.
    """
    return None if options.sink is None else parse_sink(options.sink)


def refuse_no_outbox(sink: FlaggedSink | None, alerts: Sequence[str], outputs: Outputs) -> None:
    """Check that alerts have a database in which they wait.

    Args:
      sink: what `--sink` names.
      alerts: `--alert`.
      outputs: what is written under `--out`.

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
    sink: FlaggedSink | None,
    outputs: Outputs,
    beam_options: PipelineOptions,
    console: TextIO,
    *,
    here: bool,
    streaming: bool,
) -> ScoringPlan:
    """Find the bundle and the places; `ScoringPlan.check` looks whether these can be used.

    Args:
      options: of the call.
      sink: what `--sink` names.
      outputs: what is written under `--out`.
      beam_options: how Beam runs.
      console: what `--alert console:` writes to.
      here: whether Beam's local runner runs the graph.
      streaming: whether the graph is a stream's.

    Raises:
      UsageError: an option that cannot be meant.
      FraudError: the bundle, or a file that an option names, cannot be used.
    """
    bundle = open_bundle(options.model)
    if here:
        # Elsewhere the workers need it, and this machine need not have it.
        check_packages(bundle)
    schema = bundle.schema if options.schema is None else load_schema(options.schema)
    rules = given_rules(options.rules, bundle, schema)
    features = bundle.features_in(schema, () if rules is None else rules.columns)
    if sink is not None:
        sink = sink.streaming(here=here) if streaming else sink
        # Elsewhere nobody would find what a worker keeps on its disk: there the runner tries again.
        directory = outputs.directory
        spill = directory / UNDELIVERED if here and isinstance(directory, Path) else None
        sink = sink.waiting(given_seconds("--sink-patience", options.sink_patience), spill)
    channels = _channels(options.alerts, console, pseudonymise=options.pseudonymise)
    outbox = None
    if channels and (sink is None or sink.database is None):
        assert outputs.outbox is not None, "such a call is refused before"
        outbox = Outbox(sqlite_url(outputs.outbox))
    names = tuple(channel.name for channel in channels)
    scoring = Scoring(bundle, sink, names, outbox, rules, options.reasons)
    return ScoringPlan(scoring, features, channels, beam_options)


def _channels(urls: Sequence[str], console: TextIO, *, pseudonymise: bool) -> tuple[Channel, ...]:
    pseudonyms = Pseudonyms.from_environment() if pseudonymise else None
    return tuple(parse_channel(url, console=console, pseudonyms=pseudonyms) for url in urls)
