"""The command that deletes personal data."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from beam_fraud.cli.app import app
from beam_fraud.cli.options import DryRun
from beam_fraud.cli.terminal.command import Outcome, command
from beam_fraud.errors import FraudError, UsageError


@command(app, "erase")
def erase(
    account: Annotated[
        list[str] | None,
        typer.Option("--account", metavar="ID", help="All that is known of it; repeatable."),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="SPAN", help="Instead: all from before, as in 400d."),
    ] = None,
    sink: Annotated[
        list[str] | None,
        typer.Option("--sink", metavar="URL", help="A database, or parquet:DIR; repeatable."),
    ] = None,
    out: Annotated[
        list[str] | None,
        typer.Option("--out", metavar="DIR", help="--out of a score or stream; repeatable."),
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option("--file", metavar="FILE", help="Alerts as JSON lines; repeatable."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: DryRun = False,
) -> Outcome:
    """Delete what is known of accounts, or is too old."""
    from beam_fraud.cli.commands.erase import EraseOptions, render, run, unknown, warn_of_unknown

    def options(*, dry_run: bool) -> EraseOptions:
        return EraseOptions(
            accounts=tuple(account or ()),
            older_than=older_than,
            sinks=tuple(sink or ()),
            outs=tuple(out or ()),
            files=tuple(file or ()),
            dry_run=dry_run,
        )

    if not (yes or dry_run):
        if not sys.stdin.isatty():
            raise UsageError("erase: deletes for good; add --yes, or --dry-run to count first")
        counted = run(options(dry_run=True))
        if unknown(counted):
            return Outcome(counted, render, exit_code=1)
        warn_of_unknown(counted)
        print(
            f"Delete {counted['total']:,} rows for good? [y/N] ",
            end="",
            file=sys.stderr,
            flush=True,
        )
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise FraudError("nothing was deleted")
    result = run(options(dry_run=dry_run))
    if yes or dry_run:
        warn_of_unknown(result)
    return Outcome(result, render, exit_code=1 if unknown(result) else 0)
