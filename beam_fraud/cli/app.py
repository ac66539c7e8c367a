"""The command line itself, to which the commands are added."""

from __future__ import annotations

from typing import Annotated

import typer

from beam_fraud import __version__

# Help in plain text: rich's panels would take longer to import than all the rest together.
app = typer.Typer(
    help="Score card transactions for fraud with one Apache Beam pipeline.",
    add_completion=False,
    rich_markup_mode=None,
)
models = typer.Typer(help="List, show, compare, import and export models.", rich_markup_mode=None)
app.add_typer(models, name="models")
rules = typer.Typer(help="Try rules that stand beside the model.", rich_markup_mode=None)
app.add_typer(rules, name="rules")
dead_letters = typer.Typer(
    help="List, repair and replay records that are no transactions.", rich_markup_mode=None
)
app.add_typer(dead_letters, name="dead-letters")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"beam-fraud {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass
