"""The commands about rules."""

from __future__ import annotations

from typing import Annotated

import typer

from beam_fraud.cli.app import rules
from beam_fraud.cli.options import History, Since, Until
from beam_fraud.cli.terminal.command import Outcome, command


@command(rules, "check")
def check(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Rules, a TOML file.")],
    on: Annotated[
        list[str],
        typer.Option(
            "--on",
            metavar="DATA",
            help="Transactions to try them on, with or without labels: files, directories or "
            "globs; repeatable.",
        ),
    ],
    schema: Annotated[
        str | None,
        typer.Option(
            "--schema",
            metavar="S",
            help="A preset (ulb, handbook, ledger) or a TOML file; the model's own if absent.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="BUNDLE", help="See what they add to this model."),
    ] = None,
    since: Since = None,
    until: Until = None,
    history: History = None,
) -> Outcome:
    """Try rules on transactions: what each fires on and catches."""
    from beam_fraud.cli.commands.check_rules import CheckRulesOptions, render, run

    options = CheckRulesOptions(
        file=file,
        on=tuple(on),
        schema=schema,
        model=model,
        since=since,
        until=until,
        history=tuple(history or ()),
    )
    return Outcome(run(options), render)
