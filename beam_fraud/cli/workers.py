"""The command that starts Python workers for runners elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer

from beam_fraud.cli.app import app
from beam_fraud.cli.terminal.command import Outcome, command


@command(app, "workers")
def workers(
    port: Annotated[
        int,
        typer.Option(
            "--port", metavar="N", min=0, max=65535, help="Where it listens; 0: any free port."
        ),
    ] = 50000,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            help="Address to listen at. Whoever reaches it can run code here: 0.0.0.0 only in a "
            "network of its own.",
        ),
    ] = "127.0.0.1",
) -> Outcome:
    """Start Python workers for a Flink cluster.

    They serve its jobs of `--environment_type=EXTERNAL`.
    """
    from beam_fraud.cli.commands.workers import WorkersOptions, render, run

    return Outcome(run(WorkersOptions(port=port, host=host)), render)
