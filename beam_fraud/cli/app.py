"""The command line: its groups and commands, the options of each and the module that runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from copy import copy
from functools import partial
from inspect import getdoc
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from beam_fraud import __version__
from beam_fraud.cli import options
from beam_fraud.cli.beam_options import BeamCommand
from beam_fraud.cli.terminal.command import StrictCommand, command

_V = TypeVar("_V")


class Lazy(MutableMapping[str, _V]):
    """A mapping whose values are created on first access.

    Building the options of every command takes longer than everything else that the help of one
    needs.
    """

    def __init__(self, makers: Mapping[str, Callable[[], _V]]) -> None:
        self._makers = dict(makers)
        self._made: dict[str, _V] = {}

    def __getitem__(self, key: str) -> _V:
        if key not in self._made:
            self._made[key] = self._makers[key]()
        return self._made[key]

    def __setitem__(self, key: str, value: _V) -> None:
        self._makers[key] = lambda: value
        self._made[key] = value

    def __delitem__(self, key: str) -> None:
        del self._makers[key]
        self._made.pop(key, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"beam-fraud {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def _target(name: str, module: str) -> tuple[type, str]:
    return getattr(options, name), module


#: Group to its help.
GROUPS = {
    "schema": "Draft a schema by files, and check files by a schema.",
    "models": "List, show, compare, import and export models.",
    "registry": "Record which model and rules decide, and go back.",
    "lists": "Change the lists that rules name as @name.",
    "rules": "Try rules that stand beside the model.",
    "dead-letters": "List, repair and replay records that are no transactions.",
    "label": "Import and export what people have decided.",
    "alerts": "List, resend and hold back alerts; try their channels.",
    "users": "Add, list, disable and reset people of the analysts' pages.",
}
#: Words of a command to its options, and its module under `commands`.
COMMANDS: MutableMapping[str, tuple[type, str]] = Lazy(
    {
        words: partial(_target, name, module)
        for words, name, module in (
            ("demo", "DemoOptions", "demo"),
            ("simulate", "SimulateOptions", "simulate"),
            ("train", "TrainOptions", "train"),
            ("retrain", "RetrainOptions", "retrain"),
            ("explore", "ExploreOptions", "explore"),
            ("evaluate", "EvaluateOptions", "evaluate"),
            ("features", "FeaturesOptions", "features"),
            ("score", "ScoreOptions", "score"),
            ("rescore", "RescoreOptions", "rescore"),
            ("stream", "StreamOptions", "stream"),
            ("serve", "ServeOptions", "serve"),
            ("review", "ReviewOptions", "review"),
            ("monitor", "MonitorOptions", "monitor"),
            ("skew", "SkewOptions", "skew"),
            ("doctor", "DoctorOptions", "doctor"),
            ("workers", "WorkersOptions", "workers"),
            ("audit", "AuditOptions", "audit"),
            ("erase", "EraseOptions", "erase"),
            ("schema infer", "InferSchemaOptions", "schemas:infer"),
            ("schema check", "CheckSchemaOptions", "schemas:check"),
            ("models list", "ListModelsOptions", "models:list"),
            ("models show", "ShowModelOptions", "models:show"),
            ("models compare", "CompareModelsOptions", "compare_models"),
            ("models import", "ImportModelOptions", "import_model"),
            ("models export", "ExportModelOptions", "export_model"),
            ("registry add", "RegistryAddOptions", "registry:add"),
            ("registry list", "RegistryListOptions", "registry:list"),
            ("registry show", "RegistryShowOptions", "registry:show"),
            ("registry promote", "RegistryPromoteOptions", "registry:promote"),
            ("registry rollback", "RegistryRollbackOptions", "registry:rollback"),
            ("registry retire", "RegistryRetireOptions", "registry:retire"),
            ("registry log", "RegistryLogOptions", "registry:log"),
            ("registry verify", "RegistryVerifyOptions", "registry:verify"),
            ("lists add", "ListAddOptions", "lists:add"),
            ("lists remove", "ListRemoveOptions", "lists:remove"),
            ("lists show", "ListShowOptions", "lists:show"),
            ("lists import", "ListImportOptions", "lists:import"),
            ("rules check", "CheckRulesOptions", "check_rules"),
            ("rules diff", "DiffRulesOptions", "diff_rules"),
            ("dead-letters list", "ListDeadLettersOptions", "dead_letters:list"),
            ("dead-letters export", "ExportDeadLettersOptions", "dead_letters:export"),
            ("dead-letters replay", "ReplayOptions", "replay"),
            ("label import", "ImportLabelsOptions", "labels:import"),
            ("label export", "ExportLabelsOptions", "labels:export"),
            ("alerts list", "ListAlertsOptions", "alerts:list"),
            ("alerts resend", "ResendAlertsOptions", "alerts:resend"),
            ("alerts snooze", "SnoozeAlertsOptions", "alerts:snooze"),
            ("alerts test", "AlertTestOptions", "alert_test"),
            ("users add", "UsersAddOptions", "users:add"),
            ("users list", "UsersListOptions", "users:list"),
            ("users disable", "UsersDisableOptions", "users:disable"),
            ("users reset", "UsersResetOptions", "users:reset"),
        )
    }
)
#: Commands whose modules show their progress themselves.
LIVE = frozenset({"stream", "serve", "review"})


def _command(words: str) -> Any:
    """Return Typer's command for the words of a command."""
    declared, module = COMMANDS[words]
    of_command = typer.Typer(add_completion=False, rich_markup_mode=None)
    command(
        of_command,
        words.rpartition(" ")[2],
        declared,
        f"beam_fraud.cli.commands.{module}",
        cls=BeamCommand if issubclass(declared, options.RunnerOptions) else StrictCommand,
        shows_activities=words not in LIVE,
    )
    return get_command(of_command)


def _described(words: str) -> TyperCommand:
    """Return a command with its help alone."""
    return TyperCommand(words.rpartition(" ")[2], help=getdoc(COMMANDS[words][0]))


def _group_of(words: str) -> type[TyperGroup]:
    """Return the group of the commands with these first words."""

    class Group(TyperGroup):
        def __init__(self, *, commands: Any = None, **attributes: Any) -> None:
            named = {each.rpartition(" "): each for each in COMMANDS}
            self._own = {name: each for (of, _, name), each in named.items() if of == words}
            own = {name: partial(_command, each) for name, each in self._own.items()}
            added = {name: partial(commands.get, name) for name in commands or ()}
            super().__init__(**attributes)
            self.commands = Lazy({**own, **added})

        def format_commands(self, ctx: Any, formatter: Any) -> None:
            """List the commands without building their options."""
            listed = copy(self)
            listed.commands = {
                name: _described(self._own[name]) if name in self._own else self.commands[name]
                for name in self.commands
            }
            super(Group, listed).format_commands(ctx, formatter)

    return Group


# Plain text help: rich's panels take longer to import than all the rest together.
app = typer.Typer(
    cls=_group_of(""),
    help="Score card transactions for fraud with one Apache Beam pipeline.",
    add_completion=False,
    rich_markup_mode=None,
)
app.callback()(_root)
for _name, _help in GROUPS.items():
    _group = typer.Typer(cls=_group_of(_name), help=_help, rich_markup_mode=None)
    app.add_typer(_group, name=_name)
    if _name == "alerts":
        # Common alternatives.
        app.add_typer(_group, name="alert", hidden=True)
