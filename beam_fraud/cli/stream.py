"""The command over a stream."""

from __future__ import annotations

from typing import Annotated

import typer

from beam_fraud.cli.app import app
from beam_fraud.cli.beam_options import BEAM_ARGS, BeamCommand
from beam_fraud.cli.options import (
    Alerts,
    Bundle,
    History,
    KafkaConfig,
    KafkaProperties,
    MaxDead,
    Pseudonymise,
    Reasons,
    Rules,
    SchemaOfBundle,
    Sink,
    SinkPatience,
)
from beam_fraud.cli.terminal.command import Outcome, command
from beam_fraud.cli.terminal.worker_output import worker_output_logged


@command(app, "stream", cls=BeamCommand)
def stream(
    context: typer.Context,
    model: Bundle,
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Where scores and the state go.")
    ],
    kafka: Annotated[
        str | None, typer.Option("--kafka", metavar="HOST:PORT", help="The broker to read from.")
    ] = None,
    topic: Annotated[
        str | None,
        typer.Option("--topic", metavar="T", help="Read transactions from this topic, as JSON."),
    ] = None,
    watch: Annotated[
        str | None,
        typer.Option(
            "--watch", metavar="DIR", help="Score files as they come there, instead of a topic."
        ),
    ] = None,
    schema: SchemaOfBundle = None,
    sink: Sink = None,
    sink_patience: SinkPatience = "5m",
    alert: Alerts = None,
    pseudonymise: Pseudonymise = False,
    reasons: Reasons = 5,
    history: History = None,
    rules: Rules = None,
    rule_limit: Annotated[
        float,
        typer.Option(
            "--rule-limit",
            metavar="SHARE",
            min=0.0,
            max=1.0,
            help="Share of an hour's rows beyond which a rule is muted for that hour; 1: never.",
        ),
    ] = 0.2,
    labels_topic: Annotated[
        str | None,
        typer.Option("--labels-topic", metavar="T", help="Read labels from this topic, as JSON."),
    ] = None,
    out_topic: Annotated[
        str | None,
        typer.Option("--out-topic", metavar="T", help="Send all scores to this topic, as JSON."),
    ] = None,
    dead_letter_topic: Annotated[
        str | None,
        typer.Option(
            "--dead-letter-topic", metavar="T", help="Send what is no transaction to this topic."
        ),
    ] = None,
    kafka_config: KafkaConfig = None,
    kafka_properties: KafkaProperties = None,
    start: Annotated[
        str,
        typer.Option(
            "--start",
            metavar="WHERE",
            help="Where a new stream begins: earliest, latest, committed or an ISO 8601 time.",
        ),
    ] = "committed",
    reorder: Annotated[
        int | None,
        typer.Option(
            "--reorder",
            metavar="MS",
            min=1,
            help="Let rows wait for older ones of other partitions, at most so long.",
        ),
    ] = None,
    lateness: Annotated[
        str,
        typer.Option(
            "--lateness",
            metavar="SPAN",
            help="How late a transaction may be and still see all of its windows, as in 15m.",
        ),
    ] = "1h",
    max_ahead: Annotated[
        str,
        typer.Option(
            "--max-ahead",
            metavar="SPAN",
            help="How far an event time may be after its arrival; later ones are dead letters.",
        ),
    ] = "1h",
    dedupe_horizon: Annotated[
        str,
        typer.Option("--dedupe-horizon", metavar="SPAN", help="How far back ids are remembered."),
    ] = "1d",
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port",
            metavar="N",
            min=0,
            max=65535,
            help="Serve metrics for Prometheus on the loopback interface; 0 takes a free port.",
        ),
    ] = None,
    until_idle: Annotated[
        float | None,
        typer.Option(
            "--until-idle", metavar="S", min=0.0, help="End when nothing has come for S seconds."
        ),
    ] = None,
    max_dead: MaxDead = None,
    roll_rows: Annotated[
        int,
        typer.Option(
            "--roll-rows", metavar="N", min=1, help="Rows of a Parquet file of the archive."
        ),
    ] = 1_000_000,
    roll_seconds: Annotated[
        float,
        typer.Option(
            "--roll-seconds", metavar="S", min=0.1, help="Seconds until such a file is finished."
        ),
    ] = 300.0,
    shards: Annotated[
        int | None,
        typer.Option(
            "--shards",
            metavar="N",
            min=1,
            max=256,
            help="Parts of the state; 1 on this machine, else 16.",
        ),
    ] = None,
) -> Outcome:
    """Score a topic of Kafka, or files as they arrive.

    Ctrl-C or SIGTERM ends it in good order; the same call goes on where it stopped.

    Options of Beam's runners, such as --runner or --flink_master, are passed on to Beam.
    """
    from beam_fraud.cli.commands.stream import StreamOptions, render, run

    options = StreamOptions(
        model=model,
        out=out,
        kafka=kafka,
        topic=topic,
        watch=watch,
        schema=schema,
        history=tuple(history or ()),
        sink=sink,
        sink_patience=sink_patience,
        alerts=tuple(alert or ()),
        pseudonymise=pseudonymise,
        rules=rules,
        rule_limit=rule_limit,
        reasons=reasons,
        labels_topic=labels_topic,
        out_topic=out_topic,
        dead_letter_topic=dead_letter_topic,
        kafka_config=tuple(kafka_config or ()),
        kafka_properties=kafka_properties,
        start=start,
        reorder=reorder,
        lateness=lateness,
        ahead=max_ahead,
        dedupe_horizon=dedupe_horizon,
        metrics_port=metrics_port,
        until_idle=until_idle,
        max_dead=max_dead,
        roll_rows=roll_rows,
        roll_seconds=roll_seconds,
        shards=shards,
        beam_args=context.meta[BEAM_ARGS],
    )
    with worker_output_logged():
        return Outcome(run(options), render)
