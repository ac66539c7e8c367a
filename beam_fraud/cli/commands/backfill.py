"""Back-fill a database, a topic or alert channels from a rescored archive."""

from __future__ import annotations

import math
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from beam_fraud.alerts.alert import AlertContext
from beam_fraud.alerts.channels.channel import Channel
from beam_fraud.alerts.channels.url import parse_channels
from beam_fraud.alerts.dispatch import send_pending
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.cli.commands.scoring import refuse_no_outbox, sink_of
from beam_fraud.cli.commands.times import parse_seconds
from beam_fraud.cli.options.decisions import BackfillOptions
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.monitoring.activity import doing
from beam_fraud.pipeline.rescore.backfill import (
    Destination,
    FlaggedRows,
    Pace,
    PartitionScores,
    ScoredTopic,
    backfill,
)
from beam_fraud.sinks.base import WriterSink
from beam_fraud.sources.kafka.options import broker_settings
from beam_fraud.sources.kafka.settings import KafkaSettings
from beam_fraud.storage.database.connection import sqlite_url
from beam_fraud.storage.rescore_outputs import RescoreOutputs

#: Name of the file of the state under `--out`.
STATE = "backfill.json"


class StateFiles(Protocol):
    """Files that are read and replaced as a whole."""

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a file, or None."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file."""


@dataclass(frozen=True)
class BackfillPlan:
    """The checked destinations of a call."""

    #: The database of flagged rows, or None.
    sink: WriterSink | None
    #: Where alerts wait if not there, or None.
    outbox: Outbox | None
    channels: tuple[Channel, ...]
    #: Settings that alerts need beside their rows.
    context: AlertContext
    #: Broker and topic of all scored rows, or None.
    topic: tuple[KafkaSettings, str] | None
    rows_per_second: float | None

    def check(self) -> None:
        """Check that the destinations can be written to, changing nothing.

        Raises:
          FraudError: one cannot.
        """
        if self.sink is not None:
            self.sink.check()
        if self.outbox is not None:
            self.outbox.check()
        for channel in self.channels:
            channel.check()
        if self.topic is not None:
            # Imported here: most runs need no client library.
            from beam_fraud.sources.kafka.check import topic_partitions

            topic_partitions(*self.topic)

    def run(
        self,
        partitions: Sequence[PartitionScores],
        outputs: StateFiles,
    ) -> dict[str, object]:
        """Write what destinations lack, then send the alerts.

        Args:
          partitions: the scores of the new model.
          outputs: where `STATE` is.

        Returns:
          `backfill`: rows by destination; with channels `alerts`.

        Raises:
          FraudError: a destination refuses rows, or alerts could not be sent.
        """
        run_id = uuid.uuid4().hex
        destinations: list[Destination] = []
        if self.sink is not None or self.outbox is not None:
            names = tuple(channel.name for channel in self.channels)
            destinations.append(FlaggedRows(self.sink, self.outbox, names, self.context, run_id))
        topic = None if self.topic is None else ScoredTopic(*self.topic)
        if topic is not None:
            destinations.append(topic)
        if self.sink is not None:
            self.sink.begin(run_id)
        if self.outbox is not None:
            self.outbox.begin()
        pace = Pace(self.rows_per_second)
        try:
            with doing("writing scores", lambda: f"{pace.passed:,} rows"):
                sent = backfill(
                    partitions,
                    destinations,
                    pace,
                    lambda: outputs.read(STATE),
                    lambda data: outputs.write(STATE, data),
                )
        except BaseException:
            if self.sink is not None:
                self.sink.discard(run_id)
            raise
        finally:
            if topic is not None:
                topic.close()
        if self.sink is not None:
            self.sink.commit(run_id)
        return {"backfill": sent, **self._alert()}

    def _alert(self) -> dict[str, object]:
        if not self.channels:
            return {}
        outbox = self.outbox
        if outbox is None:
            assert self.sink is not None
            assert self.sink.database is not None
            outbox = Outbox(self.sink.database)
        report = send_pending(outbox, self.channels)
        if report.failed:
            raise FraudError(
                f"{report.failed:,} alerts were not sent and wait in the outbox; the scores are "
                "written: repeat the call to send them",
                Code.ALERTS_UNSENT,
            )
        return {"alerts": {"sent": report.sent, "already_sent": report.already_sent}}


def backfill_plan(
    options: BackfillOptions, outputs: RescoreOutputs, context: AlertContext
) -> BackfillPlan | None:
    """Plan the back-fill of a call; None if it names no destination.

    Args:
      options: options of the call.
      outputs: `--out`, which holds the outbox of alerts without a database.
      context: settings that alerts need beside their rows.

    Raises:
      UsageError: an option is invalid or has no effect.
      FraudError: a file of an option cannot be used.
    """
    rate = options.max_rows_per_second
    if rate is not None and not 0 < rate < math.inf:
        raise UsageError(f"--max-rows-per-second {rate:g}: must be above 0", Code.OPTION_VALUE)
    for one, other, value, needed in (
        ("--out-topic", "--kafka HOST:PORT", options.out_topic, options.kafka),
        ("--kafka", "--out-topic T", options.kafka, options.out_topic),
    ):
        if value is not None and needed is None:
            raise UsageError(f"{one}: needs {other}", Code.OPTION_MISSING)
    sink = _database(options, outputs.directory)
    if options.out_topic is None and sink is None and not options.alerts:
        if rate is not None:
            raise UsageError(
                "--max-rows-per-second: limits writes to --sink, --out-topic or --alert, and none "
                "is given",
                Code.OPTION_CONFLICT,
            )
        return None
    topic = None if options.out_topic is None else (broker_settings(options), options.out_topic)
    channels = parse_channels(options.alerts, sys.stderr, pseudonymise=options.pseudonymise)
    outbox = None
    if channels and sink is None:
        refuse_no_outbox(sink, options.alerts, outputs)
        assert outputs.outbox is not None, "such a call is refused before"
        outbox = Outbox(sqlite_url(outputs.outbox))
    return BackfillPlan(sink, outbox, channels, context, topic, rate)


def _database(options: BackfillOptions, directory: Path | str) -> WriterSink | None:
    sink = sink_of(options)
    if sink is None:
        return None
    connected = (
        sink.for_run(directory)
        .waiting(parse_seconds("--sink-patience", options.sink_patience), None)
        .connected
    )
    if connected is None or connected.database is None:
        raise UsageError(
            f"--sink {sink.describe()}: is no database; the scores of every partition are Parquet "
            "files in --out already",
            Code.SINK_UNSUITED,
        )
    return connected
