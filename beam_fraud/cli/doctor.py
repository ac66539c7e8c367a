"""The command that looks at the surroundings."""

from __future__ import annotations

from typing import Annotated

import typer

from beam_fraud.cli.app import app
from beam_fraud.cli.beam_options import BEAM_ARGS, BeamCommand
from beam_fraud.cli.options import KafkaConfig, KafkaProperties
from beam_fraud.cli.terminal.command import AS_JSON, Outcome, command
from beam_fraud.cli.terminal.progress import activities_shown
from beam_fraud.cli.terminal.worker_output import worker_output_logged


@command(app, "doctor", cls=BeamCommand)
def doctor(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Option("--model", metavar="BUNDLE", help="A model that has to open.")
    ] = None,
    schema: Annotated[
        str | None, typer.Option("--schema", metavar="S", help="A schema that has to be readable.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Where results are to go.")
    ] = None,
    kafka: Annotated[
        str | None,
        typer.Option("--kafka", metavar="HOST:PORT", help="The broker; a stream is meant."),
    ] = None,
    topic: Annotated[
        list[str] | None,
        typer.Option("--topic", metavar="T", help="A topic that has to be there; repeatable."),
    ] = None,
    kafka_config: KafkaConfig = None,
    kafka_properties: KafkaProperties = None,
    no_probe: Annotated[
        bool, typer.Option("--no-probe", help="Run no pipeline to look at the workers.")
    ] = False,
    probe_seconds: Annotated[
        float,
        typer.Option(
            "--probe-seconds", metavar="S", min=1.0, help="How long that pipeline may take."
        ),
    ] = 120.0,
) -> Outcome:
    """Check whether this machine, or a runner, is ready.

    The exit code is 1 if it is not.

    Options of Beam's runners, such as --runner or --flink_master, say which runner.
    """
    from beam_fraud.cli.commands.doctor import DoctorOptions, exit_code, render, run, show_check

    options = DoctorOptions(
        model=model,
        schema=schema,
        out=out,
        kafka=kafka,
        topics=tuple(topic or ()),
        kafka_config=tuple(kafka_config or ()),
        kafka_properties=kafka_properties,
        probe=not no_probe,
        probe_seconds=probe_seconds,
        beam_args=context.meta[BEAM_ARGS],
    )
    show = None if context.meta[AS_JSON] else show_check
    with worker_output_logged(), activities_shown():
        result = run(options, show)
    return Outcome(result, render, exit_code(result))
