"""The commands over alerts."""

from __future__ import annotations

from typing import Annotated

import typer

from beam_fraud.cli.app import app
from beam_fraud.commandline.command import Outcome, command

alerts = typer.Typer(help="Alerts and their channels.", rich_markup_mode=None)
app.add_typer(alerts, name="alerts")
#: What people write as well.
app.add_typer(alerts, name="alert", hidden=True)


@command(alerts, "test")
def send_test(
    urls: Annotated[
        list[str],
        typer.Argument(metavar="URL", help="As --alert takes it; repeatable.", show_default=False),
    ],
    pseudonymise: Annotated[
        bool,
        typer.Option("--pseudonymise", help="Keyed hashes for ids, by BEAM_FRAUD_PSEUDONYM_KEY."),
    ] = False,
) -> Outcome:
    """Send one made-up alert, to see that it arrives."""
    from beam_fraud.commands.alert_test import AlertTestOptions, render, run

    return Outcome(run(AlertTestOptions(tuple(urls), pseudonymise)), render)
