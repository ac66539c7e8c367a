"""The command line: its groups and commands, the options of each and the module that runs it."""

from __future__ import annotations

from typing import Annotated

import typer

from beam_fraud import __version__
from beam_fraud.cli import options
from beam_fraud.cli.beam_options import BeamCommand
from beam_fraud.cli.terminal.command import StrictCommand, command

# Help in plain text: rich's panels would take longer to import than all the rest together.
app = typer.Typer(
    help="Score card transactions for fraud with one Apache Beam pipeline.",
    add_completion=False,
    rich_markup_mode=None,
)


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


#: Group to what its help says.
GROUPS = {
    "models": "List, show, compare, import and export models.",
    "rules": "Try rules that stand beside the model.",
    "dead-letters": "List, repair and replay records that are no transactions.",
    "alerts": "List, resend and hold back alerts; try their channels.",
}
#: Words of a command to its options, and the module under `commands` that runs it.
COMMANDS: dict[str, tuple[type, str]] = {
    "demo": (options.DemoOptions, "demo"),
    "simulate": (options.SimulateOptions, "simulate"),
    "train": (options.TrainOptions, "train"),
    "explore": (options.ExploreOptions, "explore"),
    "evaluate": (options.EvaluateOptions, "evaluate"),
    "features": (options.FeaturesOptions, "features"),
    "score": (options.ScoreOptions, "score"),
    "stream": (options.StreamOptions, "stream"),
    "doctor": (options.DoctorOptions, "doctor"),
    "workers": (options.WorkersOptions, "workers"),
    "erase": (options.EraseOptions, "erase"),
    "models list": (options.ListModelsOptions, "list_models"),
    "models show": (options.ShowModelOptions, "show_model"),
    "models compare": (options.CompareModelsOptions, "compare_models"),
    "models import": (options.ImportModelOptions, "import_model"),
    "models export": (options.ExportModelOptions, "export_model"),
    "rules check": (options.CheckRulesOptions, "check_rules"),
    "dead-letters list": (options.ListDeadLettersOptions, "dead_letters:list"),
    "dead-letters export": (options.ExportDeadLettersOptions, "dead_letters:export"),
    "dead-letters replay": (options.ReplayOptions, "replay"),
    "alerts list": (options.ListAlertsOptions, "list_alerts"),
    "alerts resend": (options.ResendAlertsOptions, "resend_alerts"),
    "alerts snooze": (options.SnoozeAlertsOptions, "snooze_alerts"),
    "alerts test": (options.AlertTestOptions, "alert_test"),
}
#: Commands whose modules show themselves what they are doing.
LIVE = frozenset({"stream"})


def _add_commands() -> None:
    groups = {name: typer.Typer(help=said, rich_markup_mode=None) for name, said in GROUPS.items()}
    for words, (declared, module) in COMMANDS.items():
        group, _, name = words.rpartition(" ")
        cls = BeamCommand if issubclass(declared, options.RunnerOptions) else StrictCommand
        command(
            groups.get(group, app),
            name,
            declared,
            f"beam_fraud.cli.commands.{module}",
            cls=cls,
            shows_activities=words not in LIVE,
        )
    for name, subcommands in groups.items():
        app.add_typer(subcommands, name=name)
    # What people write as well.
    app.add_typer(groups["alerts"], name="alert", hidden=True)


_add_commands()
