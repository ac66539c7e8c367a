"""The commands over dead letters."""

from __future__ import annotations

from typing import Annotated

import typer

from beam_fraud.cli.app import dead_letters
from beam_fraud.cli.options import KafkaConfig, KafkaProperties, ScoringChoices
from beam_fraud.cli.terminal.command import Outcome, command
from beam_fraud.cli.terminal.progress import activities_shown
from beam_fraud.cli.terminal.worker_output import worker_output_logged
from beam_fraud.errors import UsageError
from beam_fraud.monitoring.own_call import own_call

Out = Annotated[
    str | None,
    typer.Argument(metavar="OUT", help="--out of the score or stream that made them."),
]
OfDatabase = Annotated[
    str | None,
    typer.Option("--sink", metavar="URL", help="Instead of OUT: the database that holds them."),
]
Reason = Annotated[
    str | None, typer.Option("--reason", metavar="R", help="Only those of this reason.")
]
Source = Annotated[
    str | None,
    typer.Option("--source", metavar="S", help="Only those of this file or TOPIC:PARTITION."),
]


@command(dead_letters, "list")
def list_(
    out: Out = None,
    sink: OfDatabase = None,
    reason: Reason = None,
    source: Source = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=0, help="Rows to show at most.")
    ] = 20,
    payload: Annotated[
        bool, typer.Option("--payload", help="Show the records, which are personal data.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Those as well that were put through again.")
    ] = False,
) -> Outcome:
    """Count the records that are no transactions, and show the first."""
    from beam_fraud.cli.commands.dead_letters import ListOptions, render_list, run_list

    options = ListOptions(
        out=out,
        sink=sink,
        reason=reason,
        source=source,
        limit=limit,
        payload=payload,
        all=everything,
    )
    return Outcome(run_list(options), render_list)


@command(dead_letters, "export")
def export(
    to: Annotated[str, typer.Option("--to", metavar="FILE", help="A new file of JSON lines.")],
    out: Out = None,
    sink: OfDatabase = None,
    reason: Reason = None,
    source: Source = None,
) -> Outcome:
    """Write the records to a file in which they can be repaired."""
    from beam_fraud.cli.commands.dead_letters import ExportOptions, render_export, run_export

    options = ExportOptions(out=out, sink=sink, reason=reason, source=source, to=to)
    return Outcome(run_export(options), render_export)


@command(dead_letters, "replay")
def replay(
    out: Out = None,
    of_sink: Annotated[
        str | None,
        typer.Option("--from-sink", metavar="URL", help="Instead of OUT: a database."),
    ] = None,
    repaired: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE", help="Repaired records; default: as they are."),
    ] = None,
    reason: Reason = None,
    source: Source = None,
    header: Annotated[
        str | None,
        typer.Option("--header", metavar="FILE", help="Of CSV: the file, or its first line."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Records at most.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="BUNDLE", help="Directory of the model.")
    ] = None,
    results: Annotated[
        str | None,
        typer.Option("--out", metavar="DIR", help="A new directory for the results."),
    ] = None,
    *,
    how: ScoringChoices,
    topic: Annotated[
        str | None,
        typer.Option("--to-topic", metavar="T", help="Instead of --model: send them to a stream."),
    ] = None,
    kafka: Annotated[
        str | None, typer.Option("--kafka", metavar="HOST:PORT", help="The broker of --to-topic.")
    ] = None,
    kafka_config: KafkaConfig = None,
    kafka_properties: KafkaProperties = None,
) -> Outcome:
    """Put repaired records through again.

    They are scored as by `score`, or sent to a stream's topic.

    With OUT and --sink alone: write the rows to the database that it did not take before.
    """
    chosen = {"out": out, "sink": of_sink, "reason": reason, "source": source}
    repairs = {"repaired": repaired, "header": header, "limit": limit}
    if topic is not None:
        if model is not None or results is not None:
            raise UsageError("--to-topic: the stream scores them; leave --model and --out")
        from beam_fraud.cli.commands import replay_topic

        sent = replay_topic.ReplayTopicOptions(
            **chosen,  # type: ignore[arg-type]  # each of the type of its option
            **repairs,  # type: ignore[arg-type]
            topic=topic,
            kafka=kafka,
            kafka_config=tuple(kafka_config or ()),
            kafka_properties=kafka_properties,
        )
        return Outcome(replay_topic.run(sent), replay_topic.render)
    if model is None and results is None and out is not None and how.sink is not None:
        from beam_fraud.cli.commands import replay_undelivered

        return Outcome(replay_undelivered.run(out, how.sink), replay_undelivered.render)
    if model is None or results is None:
        raise UsageError(
            f"give --model and --out, or --to-topic; see {own_call()} dead-letters replay --help"
        )
    from beam_fraud.cli.commands import replay as replaying
    from beam_fraud.cli.commands.score import ScoreOptions

    scoring = ScoreOptions(files=(), model=model, out=results, **how.given())
    options = replaying.ReplayOptions(**chosen, **repairs, scoring=scoring)  # type: ignore[arg-type]
    with worker_output_logged(), activities_shown():
        return Outcome(replaying.run(options), replaying.render)
